"""All domains by name, any folder as a domain, and what is there.

Generated from book/src/60_data.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from torch import Tensor

from cdlm.data.archives import (
    DamagedError,
    DataError,
    DataNote,
    file_checksum,
    unpack_archive,
    user_path,
)
from cdlm.data.cache import Pieces, files_fingerprint, recalled, remembered, working_place
from cdlm.data.domain import Domain, OpenedDomain, Recipe, Split, UnknownDomainError
from cdlm.data.pictures import class_folders, read_picture, read_pictures, visible
from cdlm.data.search import Attempt, NotFoundError, Resource, Search
from cdlm.domains.digits import WHOLE_RECIPES, splits_of
from cdlm.domains.drawn import PAIR_RECIPES
from cdlm.domains.linemod import LINEMOD_RECIPES
from cdlm.settings import Span, quoted, refusal

__all__ = [
    "CATALOG",
    "FOLDER_OPTIONS",
    "LOOK_OPTIONS",
    "SIZES",
    "check_classes",
    "check_options",
    "domain_info",
    "find_recipe",
    "in_color",
    "locate_all",
    "open_domain",
    "open_folder",
    "open_sample",
    "open_whole",
    "options_of",
    "overview",
    "skips_damaged",
]


# 60_data: One door to all of them

CATALOG = {recipe.name: recipe for recipe in (*WHOLE_RECIPES, *LINEMOD_RECIPES, *PAIR_RECIPES)}
SIZES = ("best", "full", "sample")


def find_recipe(name: str) -> Recipe:
    """The recipe of a domain. Raises UnknownDomainError for another name, DataError for what
    looks like a path and is none."""
    if name in CATALOG:
        return CATALOG[name]
    if os.path.exists(user_path(name)):
        raise DataError(f"{name} is a folder or a file, and no domain of the catalog: "
                        "`cdlm data fetch` tells what is in it")
    if name.startswith((".", "~")) or "/" in name or os.sep in name or Path(name).suffix:
        raise DataError(f"there is no folder or archive {name} (from {Path.cwd()})")
    raise UnknownDomainError(f"unknown domain {name!r}; known: {', '.join(CATALOG)}, or a "
                             "folder of images, and here is none of that name")


FOLDER_OPTIONS = {"channels": (1, 3), "fit": ("crop", "pad", "stretch"),
                  "ground": Annotated[int, Span(0, 255)], "skip_damaged": bool}
LOOK_OPTIONS = {**FOLDER_OPTIONS, "size": Annotated[int, Span(1, 1024)]}


def options_of(name: str) -> dict[str, object]:
    """What may be chosen of a domain, or of a folder of images: words, or the kind of a
    value. Raises UnknownDomainError for another name."""
    if name not in CATALOG and os.path.exists(user_path(name)):
        return FOLDER_OPTIONS
    return {**find_recipe(name).options, "channels": (1, 3)}


def check_options(domain: str, known: Mapping[str, object],
                  options: Mapping[str, object]) -> None:
    """Raise DataError for an option that is not ``known``, or that has no such value."""
    for name, value in options.items():
        if name not in known:
            others = f"; it has: {', '.join(known)}" if known else ""
            raise DataError(f"{domain} has no option {quoted(name)}{others}")
        kind = Literal[known[name]] if isinstance(known[name], tuple) else known[name]
        if wanted := refusal(kind, value):
            raise DataError(f"{name} of {domain} is {quoted(value)}; it must be {wanted}")


def in_color(split: Split) -> Split:
    """Gray images as three equal channels: a view, which takes no memory."""
    return Split(split.images.expand(-1, 3, -1, -1), split.labels)


def open_domain(name: str, size: str = "best", root: Path | str | None = None,
                download: bool | None = None, channels: int | None = None,
                **options: object) -> OpenedDomain:
    """A domain by name, got by the first way that works: ``root``, CDLM_DATA, the user's
    cache, the system, a download.

    A name that is a path is a folder of images, as for open_folder. ``size`` is "full",
    "sample" (what comes with packages) or "best", the largest that is on this machine already.
    Downloads happen for "full" only, unless ``download`` says otherwise; CDLM_OFFLINE forbids
    them in any case. Raises UnknownDomainError, NotFoundError with all ways that were tried,
    DamagedError, or DataError.
    """
    check_options(name, options_of(name), options)
    if name not in CATALOG and os.path.exists(user_path(name)):
        return open_folder(name, channels=3 if channels is None else channels, **options)
    recipe = find_recipe(name)
    if size not in SIZES:
        raise DataError(f"size is one of {', '.join(SIZES)}, not {size!r}")
    search = Search(root, size == "full" if download is None else download)
    if size == "sample":
        return open_sample(recipe, search, channels)
    try:
        return open_whole(recipe, "full", search, options, channels)
    except NotFoundError:
        if size == "full" or (recipe.partial is None and recipe.sample is None):
            raise
    if recipe.partial is not None:
        try:
            return open_whole(recipe, "partial", search, {**options, **recipe.partial},
                              channels)
        except NotFoundError:
            if recipe.sample is None:
                raise
    return open_sample(recipe, search, channels)


def tell_substitute(recipe: Recipe, search: Search) -> None:
    """Say why less than the whole set is taken, to somebody who has named a folder with
    data."""
    for attempt in search.attempts:
        if attempt.way in ("folder", "CDLM_DATA") and attempt.why not in ("", "not set"):
            warnings.warn(f"{recipe.title}: not the whole set is taken but what comes with "
                          f"packages, since {attempt.why} ({attempt.way})", DataNote,
                          stacklevel=3)
            return


def open_sample(recipe: Recipe, search: Search, channels: int | None) -> OpenedDomain:
    """The sample that comes with a package. Raises NotFoundError if there is none."""
    if recipe.sample is None:
        raise NotFoundError(f"{recipe.name} has no sample in the packages; "
                            f"ask for the full set: {recipe.resources[0].advice}")
    domain = recipe.sample()
    return finish_domain(recipe, "sample", search, (domain.train, domain.test), channels,
                         (domain.origin, domain.license))


def open_whole(recipe: Recipe, size: str, search: Search, options: Mapping[str, str],
               channels: int | None) -> OpenedDomain:
    """The set as its recipe builds it under these options, which may change where it comes
    from."""
    terms = next((recipe.terms[value] for value in recipe.terms if value in options.values()),
                 (recipe.origin, recipe.license))
    return finish_domain(recipe, size, search, recipe.build(search, **options), channels,
                         terms)


def finish_domain(recipe: Recipe, size: str, search: Search, made: tuple, channels: int | None,
                  terms: tuple[str, str]) -> OpenedDomain:
    """Both splits with all that is known of them, in as many channels as asked for.

    Raises DataError if they cannot be.

    ``terms`` are their origin and their license.
    """
    have = recipe.shape[0]
    if channels not in (None, have) and (have, channels) != (1, 3):
        raise DataError(f"{recipe.name} has {have} channels and cannot be given {channels}; "
                        "only gray can, namely 3")
    train, test, classes = made if len(made) == 3 else (*made, recipe.classes)
    if channels not in (None, have):
        train, test = in_color(train), in_color(test)
    if size != "full":
        tell_substitute(recipe, search)
    way = "package" if size == "sample" else search.way
    return OpenedDomain(recipe.name, recipe.title, classes, train, test, *terms, size, way,
                        tuple(search.attempts))


# 60_data: Any folder

def lone_folder(folder: Path) -> Path:
    """The first folder, at ``folder`` or below, that holds something else than one folder."""
    while True:
        inner, pictures = visible(folder)
        if pictures or len(inner) != 1:
            return folder
        [folder] = inner


def labeled_files(folder: Path) -> dict[str, list[Path]]:
    """Picture files by class, as class_folders gives them.

    Raises DataError where the folders of ``folder`` cannot be classes.
    """
    groups, inner = class_folders(folder), visible(folder)[0]
    empty = [name for name, files in groups.items() if not files]
    if empty:
        raise DataError(f"{folder} holds no image of class {empty[0]!r}")
    if len(inner) == 1:
        raise DataError(f"{folder} holds one folder only, which makes one class; "
                        f"name the folder below, {lone_folder(folder)}")
    below = {tuple(path.name for path in visible(lone_folder(path))[0]) for path in inner}
    if inner and len(below) == 1 and len(names := below.pop()) > 1:
        raise DataError(
            f"{folder}: each of {', '.join(path.name for path in inner[:3])}, … holds folders "
            f"{', '.join(names[:3])}, …: " + ("put the classes below these" if
            find_splits(inner[0]) else f"name one of them, such as {lone_folder(inner[0])}"))
    return groups


SPLIT_NAMES = {"train": "train", "training": "train", "test": "test", "testing": "test",
               "val": "val", "valid": "val", "validation": "val", "dev": "val"}


def find_splits(folder: Path) -> dict[str, Path]:
    """Folders that are splits by their usual names, as "train", "test" and "val"; {} unless
    there are two. Raises DataError where they are not clear."""
    found = {}
    for path in visible(folder)[0]:
        role = SPLIT_NAMES.get(path.name.lower())
        if role in found:
            raise DataError(f"{folder} holds {found[role].name} and {path.name}: which of "
                            "them is it?")
        if role:
            found[role] = path
    if len(found) > 1 and "train" not in found:
        raise DataError(f"{folder} holds {' and '.join(path.name for path in found.values())},"
                        " and nothing to train from")
    return found if len(found) > 1 else {}


def tell_splits(folder: Path, splits: Mapping[str, Path]) -> str:
    """What is taken for which split, and what is left out."""
    used = splits["train"], splits.get("test", splits.get("val"))
    rest = [path.name for group in visible(folder) for path in group if path not in used]
    return (f"{folder}: images to train from {used[0].name}, to test from {used[1].name}"
            + (f"; left out: {', '.join(rest[:3])}{', …' if rest[3:] else ''}"
               if rest else ""))


def folder_groups(folder: Path) -> tuple[dict[str, list[Path]], dict[str, list[Path]], str]:
    """Picture files by class to train and to test, and what to say of them: from train/ and
    test/, or the last fifth of each class to test.

    The last, in the order of names, and not a random fifth: neighbors in a video or a catalog
    are near-duplicates.
    """
    if splits := find_splits(folder):
        train = labeled_files(splits["train"])
        test = labeled_files(splits.get("test", splits.get("val")))
        if set(train) != set(test):
            differ = ", ".join(sorted(name or "images without a class"
                                      for name in set(train) ^ set(test)))
            raise DataError(f"{folder}: train and test differ in {differ}")
        return train, test, tell_splits(folder, splits)
    note, inner = "", visible(folder)
    if len(inner[0]) == 1 and not inner[1] and inner[0][0].name.lower() in SPLIT_NAMES:
        [folder] = inner[0]
        note = f"{folder}: the last fifth of each class is held out to test"
    groups = labeled_files(folder)
    few = [name for name, files in groups.items() if len(files) < 2]
    if few:
        raise DataError(f"{folder}: class {few[0]!r} has one image only, "
                        "and it takes two to have one to test")
    cut = {name: len(files) - max(1, len(files) // 5) for name, files in groups.items()}
    return ({name: files[:cut[name]] for name, files in groups.items()},
            {name: files[cut[name]:] for name, files in groups.items()}, note)


def split_pieces(groups: Mapping[str, Sequence[Path]], read: Callable[[Path], np.ndarray],
                 shape: tuple[int, ...], skipped: list[str] | None) -> tuple[Pieces, Pieces]:
    """Images and labels of a split, to be written one after the other: what was left out is
    known after the images."""
    files = [path for group in groups.values() for path in group]
    of_file = np.repeat(np.arange(len(groups)) if set(groups) != {""} else -1,
                        [len(group) for group in groups.values()])
    kept = []
    def images() -> Iterator[np.ndarray]:
        for piece, numbers in read_pictures(files, read, skipped):
            kept.extend(numbers)
            yield piece
    def labels() -> Iterator[np.ndarray]:
        missing = set(of_file) - set(of_file[kept])
        if missing:
            raise DamagedError(f"no image of class {list(groups)[missing.pop()]!r} can be "
                               f"read; first: {skipped[0]}")
        yield of_file[kept]
    return Pieces(shape, images()), Pieces((), labels(), "int64")


def folder_parts(groups: tuple[Mapping[str, Sequence[Path]], Mapping[str, Sequence[Path]],
                               str], read: Callable[[Path], np.ndarray],
                 shape: tuple[int, ...], skip_damaged: bool) -> dict[str, Tensor | Pieces]:
    """Images and labels of both splits, to be written in this order, and at last classes,
    notes, and messages on images that were left out, as JSON."""
    parts, skipped = {}, [] if skip_damaged else None
    for name, part in zip(("train", "test"), groups):
        parts[f"{name}_images"], parts[f"{name}_labels"] = split_pieces(part, read, shape,
                                                                        skipped)
    def story() -> Iterator[np.ndarray]:
        text = json.dumps({"classes": [name for name in groups[0] if name], "note": groups[2],
                           "skipped": skipped or []})
        yield np.frombuffer(text.encode(), np.uint8)
    return parts | {"story": Pieces((), story())}


class Look(NamedTuple):
    """How images of a folder are read."""

    size: int
    channels: int
    fit: str
    ground: int
    skip_damaged: bool

    def key(self) -> dict[str, object]:
        """What of it arrays depend on."""
        return {"skip": self.skip_damaged, "as": list(self[:4])}

    def read(self, path: Path) -> np.ndarray:
        """An image file. Raises DamagedError, which says what may be done."""
        try:
            return read_picture(path, self.size, self.channels, self.fit, self.ground)
        except DamagedError as error:
            raise DamagedError(str(error) if self.skip_damaged else
                               f"{error}; --skip-damaged leaves such images out") from None

    def parts(self, groups: tuple, read: Callable[[Path], np.ndarray] | None = None
              ) -> dict[str, Tensor | Pieces]:
        """Arrays of files that folder_groups gives, to be written."""
        return folder_parts(groups, read or self.read, (self.channels, self.size, self.size),
                            self.skip_damaged)


def skips_damaged() -> bool:
    """Whether ``CDLM_SKIP_DAMAGED`` says that damaged images are left out."""
    return os.environ.get("CDLM_SKIP_DAMAGED", "").lower() not in ("", "0", "no", "false")


def open_folder(folder: Path | str, size: int = 28, channels: int = 3, fit: str = "crop",
                ground: int = 255, skip_damaged: bool | None = None) -> OpenedDomain:
    """A folder of images, or an archive of one, as a domain: with a folder for each class, or
    without classes (all labels are -1).

    Images are made ``size`` by ``size`` once and kept in the cache. A damaged image raises
    DamagedError with its name, or with ``skip_damaged`` (by default what CDLM_SKIP_DAMAGED
    says) is left out and reported in ``skipped``. Raises DataError for empty and ambiguous
    folders.
    """
    look = Look(size, channels, fit, ground,
                skips_damaged() if skip_damaged is None else skip_damaged)
    folder = Path(os.path.realpath(user_path(folder)))
    check_options(folder.name, LOOK_OPTIONS, look._asdict())
    try:
        parts = (folder_arrays if folder.is_dir() else archive_arrays)(folder, look)
    except OSError as error:
        raise DataError(f"{error.filename or folder} cannot be read: "
                        f"{error.strerror}") from None
    train, test = splits_of(parts)
    story = json.loads(bytes(parts["story"].numpy()))
    name = folder.name if folder.is_dir() else bare_name(folder)
    tell_story(name, story)
    return OpenedDomain(name, name, tuple(story["classes"]), train, test,
                        f"the folder {name}", "as its owner says", "full", "folder",
                        (Attempt("folder", ""),), tuple(story["skipped"]))


def folder_arrays(folder: Path, look: Look) -> dict[str, Tensor]:
    """Arrays of a folder, from the cache while its files are the same."""
    groups = folder_groups(folder)
    files = [path for part in groups[:2] for group in part.values() for path in group]
    key = {"version": 2, "folder": str(folder), "files": files_fingerprint(folder, files),
           **look.key()}
    return remembered(f"folder-{folder.name}", key, lambda: look.parts(groups))


def tell_story(name: str, story: Mapping) -> None:
    """Say what was taken for a split, and how many images were left out."""
    if story["note"]:
        warnings.warn(story["note"], DataNote, stacklevel=3)
    if story["skipped"]:
        warnings.warn(f"{name}: damaged images that are left out: {len(story['skipped'])}; "
                      f"the first: {story['skipped'][0]}", DataNote, stacklevel=3)


def bare_name(archive: Path) -> str:
    """The name of an archive without what it is packed with: "photos" of photos.tar.gz."""
    endings = r"(?i)(\.(zip|tar|tgz|tbz2?|txz|gz|bz2|xz))+$"
    return re.sub(endings, "", archive.name) or "archive"


def archive_arrays(archive: Path, look: Look) -> dict[str, Tensor]:
    """Arrays of a folder of images in a zip or tar archive, from the cache while its content
    is the same. Folders around the images count for nothing."""
    if not archive.exists():
        raise DataError(f"{archive} is not a folder, nor an archive of one")
    digest = file_checksum(archive)
    key = {"version": 1, "archive": digest, **look.key()}
    if (parts := recalled("archive", key)) is not None:
        return parts
    with working_place(f"unpacked-{digest[-16:]}") as place:
        def told(error: DataError) -> DataError:
            """The same, of a file in the archive and not in a place that is gone by then."""
            return type(error)(*(str(line).replace(f"{place}{os.sep}", "")
                                 for line in error.args))
        def read(path: Path) -> np.ndarray:
            try:
                return look.read(path)
            except DamagedError as error:
                raise told(error) from None
        try:
            folder = lone_folder(unpack_archive(archive, place / archive.name))
            groups = folder_groups(folder)
            return remembered("archive", key, lambda: look.parts(groups, read))
        except DataError as error:
            raise told(error) from None


def check_classes(source: Domain, target: Domain) -> None:
    """Raise DataError unless both domains have the same classes in the same order, or the
    target has none."""
    if target.classes and source.classes != target.classes:
        only = [f"only {domain.name} has {', '.join(extra)}"
                for domain, other in ((source, target), (target, source))
                if (extra := [name for name in domain.classes if name not in other.classes])]
        raise DataError(f"classes of {source.name} and {target.name} differ: "
                        f"{'; '.join(only) or 'their order is not the same'}")


# 60_data: What is there

def locate_all(recipe: Recipe, root: Path | str | None = None) -> tuple[str, str]:
    """How much of a domain is on this machine, and by which way: "full", "partial", "sample"
    or "none". Reads no images.

    Where files are damaged it is "damaged", with the message.
    """
    search = Search(root)

    def there(resources: tuple[Resource, ...]) -> bool:
        try:
            return all([search.find(resource) for resource in resources])
        except NotFoundError:
            return False
    try:
        whole = there(recipe.resources)
        part = (not whole and recipe.partial is not None
                and there(recipe.partial_resources or recipe.resources[:1]))
    except DamagedError as error:
        return "damaged", str(error)
    if whole:
        return "full", search.way or "package"
    if part:
        return "partial", f"{search.way} and package"
    return ("sample", "package") if recipe.sample is not None else ("none", "")


def overview(root: Path | str | None = None) -> list[dict[str, object]]:
    """A row for each domain: its name, how much of it is here and by which way, images to
    train and to test, license.

    The numbers of images are None where the folder decides on them: they are known when it is
    read.
    """
    rows = []
    for recipe in CATALOG.values():
        size, way = locate_all(recipe, root)
        size, way, (train, test) = counted(recipe, size, way, root)
        rows.append({"name": recipe.name, "here": size, "way": way, "train": train,
                     "test": test, "whole": list(recipe.counts), "license": recipe.license})
    return rows


def counted(recipe: Recipe, size: str, way: str,
            root: Path | str | None) -> tuple[str, str, tuple[int | None, int | None]]:
    """How much of a domain is here, by which way, and images to train and to test, as the
    files that are here have them."""
    known = {"sample": recipe.sample_counts, "none": (0, 0), "damaged": (0, 0)}
    if size in known:
        return size, way, known[size]
    if recipe.count is None:
        return size, way, recipe.counts if recipe.fixed else (None, None)
    try:
        return size, way, recipe.count(Search(root))
    except DamagedError as error:
        return "damaged", str(error), (0, 0)


def domain_info(name: str, root: Path | str | None = None) -> dict[str, object]:
    """All that is known of a domain, and what was found of it here. Reads no images."""
    recipe = find_recipe(name)
    size, way = locate_all(recipe, root)
    channels, height, width = recipe.shape
    return {"name": name, "title": recipe.title, "classes": list(recipe.classes),
            "channels": channels, "height": height, "width": width, "range": [0, 255],
            "train": recipe.counts[0], "test": recipe.counts[1], "fixed": recipe.fixed,
            "origin": recipe.origin, "license": recipe.license,
            "options": {k: list(v) if isinstance(v, tuple) else []
                        for k, v in recipe.options.items()}, "here": size,
            "way": way, "otherwise": [resource.advice for resource in recipe.resources]}
