"""All domains by name, any folder as a domain, and what is there.

Generated from book/src/60_data.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from cdlm.data.archives import DamagedError, DataError, unpack_archive
from cdlm.data.cache import Pieces, cache_root, files_fingerprint, remembered
from cdlm.data.domain import Domain, OpenedDomain, Recipe, Split, UnknownDomainError
from cdlm.data.pictures import PICTURE_ENDINGS, picture_files, read_picture, read_pictures
from cdlm.data.search import Attempt, NotFoundError, Resource, Search
from cdlm.domains.digits import WHOLE_RECIPES, splits_of
from cdlm.domains.drawn import PAIR_RECIPES
from cdlm.domains.linemod import LINEMOD_RECIPES

__all__ = [
    "CATALOG",
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
    "overview",
    "unpacked_once",
]


# 60_data: One door to all of them

CATALOG = {recipe.name: recipe for recipe in (*WHOLE_RECIPES, *LINEMOD_RECIPES, *PAIR_RECIPES)}
SIZES = ("best", "full", "sample")


def find_recipe(name: str) -> Recipe:
    """The recipe of a domain. Raises UnknownDomainError for another name."""
    if name not in CATALOG:
        raise UnknownDomainError(
            f"unknown domain {name!r}; known: {', '.join(CATALOG)}, or a folder of images")
    return CATALOG[name]


def check_options(recipe: Recipe, options: Mapping[str, object]) -> None:
    """Raise DataError for an option that a domain does not have, or that has no such value."""
    for name, value in options.items():
        if name not in recipe.options:
            known = f"; it has: {', '.join(recipe.options)}" if recipe.options else ""
            raise DataError(f"{recipe.name} has no option {name!r}{known}")
        if recipe.options[name] and value not in recipe.options[name]:
            raise DataError(f"{name} of {recipe.name} is one of "
                            f"{', '.join(recipe.options[name])}, not {value!r}")


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
    if name not in CATALOG and Path(name).expanduser().exists():
        return open_folder(name, channels=channels or 3, **options)
    recipe = find_recipe(name)
    check_options(recipe, options)
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
    way = "package" if size == "sample" else search.way
    return OpenedDomain(recipe.name, recipe.title, classes, train, test, *terms, size, way,
                        tuple(search.attempts))


# 60_data: Any folder

def class_folders(folder: Path) -> dict[str, list[Path]]:
    """Image files by class: a folder for each class, or all in one class "" where there are
    none. Raises DataError."""
    inner = sorted(path for path in folder.iterdir()
                   if path.is_dir() and not path.name.startswith("."))
    loose = [path for path in folder.iterdir()
             if path.suffix.lower() in PICTURE_ENDINGS and path.is_file()]
    if loose and inner:
        raise DataError(f"{folder} holds images beside folders ({loose[0].name}, "
                        f"{inner[0].name}): which are the classes?")
    groups = ({path.name: picture_files(path) for path in inner}
              if inner else {"": sorted(loose)})
    empty = [name for name, files in groups.items() if not files]
    if empty:
        raise DataError(f"{folder} holds no image of class {empty[0]!r}"
                        if inner else f"{folder} holds no images")
    return groups


def folder_groups(folder: Path) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Image files by class to train and to test: from train/ and test/, or the last fifth of
    each class to test.

    The last, in the order of names, and not a random fifth: neighbors in a video or a catalog
    are near-duplicates.
    """
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        train, test = class_folders(folder / "train"), class_folders(folder / "test")
        if set(train) != set(test):
            raise DataError(f"{folder}: train and test differ in "
                            f"{', '.join(sorted(set(train) ^ set(test)))}")
        return train, test
    groups = class_folders(folder)
    few = [name for name, files in groups.items() if len(files) < 2]
    if few:
        raise DataError(f"{folder}: class {few[0]!r} has one image only, "
                        "and it takes two to have one to test")
    cut = {name: len(files) - max(1, len(files) // 5) for name, files in groups.items()}
    return ({name: files[:cut[name]] for name, files in groups.items()},
            {name: files[cut[name]:] for name, files in groups.items()})


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


def folder_parts(groups: Iterable[Mapping[str, Sequence[Path]]],
                 read: Callable[[Path], np.ndarray], shape: tuple[int, ...],
                 skip_damaged: bool) -> dict[str, Tensor | Pieces]:
    """Images and labels of both splits, to be written in this order, and at last the messages
    on images that were left out, as JSON."""
    parts, skipped = {}, [] if skip_damaged else None
    for name, part in zip(("train", "test"), groups):
        parts[f"{name}_images"], parts[f"{name}_labels"] = split_pieces(part, read, shape,
                                                                        skipped)
    text = Pieces((), (np.frombuffer(json.dumps(skipped or []).encode(), np.uint8)
                       for _ in range(1)))
    return parts | {"skipped": text}


def open_folder(folder: Path | str, size: int = 28, channels: int = 3, fit: str = "crop",
                ground: int = 255, skip_damaged: bool = False) -> OpenedDomain:
    """A folder of images as a domain: with a folder for each class, or without classes
    (all labels are -1).

    Images are made ``size`` by ``size`` once and kept in the cache. A damaged image raises
    DamagedError with its name, or with ``skip_damaged`` is left out and reported in
    ``skipped``. Raises DataError for empty and ambiguous folders.
    """
    folder = Path(folder).expanduser().resolve()
    if folder.is_file():
        return open_folder(unpacked_once(folder), size, channels, fit, ground, skip_damaged)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    if channels not in (1, 3) or fit not in ("crop", "pad", "stretch") or size < 1:
        raise DataError(
            'channels are 1 or 3, fit is "crop", "pad" or "stretch", and size is positive')
    try:
        groups = folder_groups(folder)
        files = [path for part in groups for group in part.values() for path in group]
        key = {"version": 1, "folder": str(folder), "files": files_fingerprint(folder, files),
               "skip": skip_damaged, "as": [size, channels, fit, ground]}
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}") from None
    parts = remembered(f"folder-{folder.name}", key, lambda: folder_parts(
        groups, lambda path: read_picture(path, size, channels, fit, ground),
        (channels, size, size), skip_damaged))
    train, test = splits_of(parts)
    return OpenedDomain(folder.name, folder.name, tuple(filter(None, groups[0])), train, test,
                        f"the folder {folder.name}", "as its owner says", "full", "folder",
                        (Attempt("folder", ""),),
                        tuple(json.loads(bytes(parts["skipped"].numpy()))))


def unpacked_once(archive: Path) -> Path:
    """The folder of images in a zip or tar archive, unpacked into the user's cache the first
    time. Raises DamagedError."""
    folder = (cache_root() / "archives"
              / f"{archive.stem}-{files_fingerprint(archive.parent, [archive])}")
    if not folder.is_dir():
        unpack_archive(archive, folder)
    inner = [path for path in folder.iterdir() if not path.name.startswith((".", "__"))]
    return (inner[0] if len(inner) == 1 and inner[0].is_dir()
            and any(path.is_dir() for path in inner[0].iterdir()) else folder)


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
        unread = recipe.counts if recipe.fixed else (None, None)
        train, test = {"sample": recipe.sample_counts, "none": (0, 0), "damaged": (0, 0)}.get(
            size, unread)
        rows.append({"name": recipe.name, "here": size, "way": way, "train": train,
                     "test": test, "whole": list(recipe.counts), "license": recipe.license})
    return rows


def domain_info(name: str, root: Path | str | None = None) -> dict[str, object]:
    """All that is known of a domain, and what was found of it here. Reads no images."""
    recipe = find_recipe(name)
    size, way = locate_all(recipe, root)
    channels, height, width = recipe.shape
    return {"name": name, "title": recipe.title, "classes": list(recipe.classes),
            "channels": channels, "height": height, "width": width, "range": [0, 255],
            "train": recipe.counts[0], "test": recipe.counts[1], "fixed": recipe.fixed,
            "origin": recipe.origin, "license": recipe.license,
            "options": {k: list(v) for k, v in recipe.options.items()}, "here": size,
            "way": way, "otherwise": [resource.advice for resource in recipe.resources]}
