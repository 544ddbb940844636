"""Distances between domains on their pixels: by hand, against scikit-learn, and the record that the chapter reads."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binom

from cdlm.data.archives import DataError
from cdlm.data.domain import Domain, Split, checksum
from cdlm.domains.catalog import CATALOG, open_domain
from cdlm.domains.samples import load_domain
from cdlm.measurements import shift
from cdlm.measurements.shift import (
    COUNTS,
    SHIFT_PAIRS,
    VARIANTS,
    class_shares,
    comparable,
    contact_sheet,
    expected_best,
    mean_image_distance,
    measure_shift,
    nearest_neighbor,
    pair_shift,
    pixel_facts,
    subsample,
    video_leak,
)
from cdlm.runs.record import read_record

ROOT = Path(__file__).resolve().parents[2]


def split(values: list[list[int]], labels: list[int], channels: int = 1) -> Split:
    """Images of one row of pixels each."""
    images = torch.tensor(values, dtype=torch.uint8)[:, None, None].repeat(1, channels, 1, 1)
    return Split(images, torch.tensor(labels))


def domain(train: Split, test: Split, classes: tuple[str, ...] = ("a", "b"), name: str = "toy") -> Domain:
    return Domain(name, name.title(), classes, train, test, origin="here", license="none")


# One number at a time


def test_pixel_facts_by_hand():
    facts = pixel_facts(torch.tensor([0, 0, 255, 51], dtype=torch.uint8).view(2, 1, 1, 2))
    assert facts["mean"] == pytest.approx(0.3) and facts["black"] == 0.5
    assert facts["deviation"] == pytest.approx(math.sqrt((2 * 0.09 + 0.49 + 0.01) / 4))


def test_distance_of_mean_images_by_hand():
    a, b = split([[0, 0], [102, 0]], [0, 0]).images, split([[204, 51], [204, 51], [204, 51]], [0, 0, 0]).images
    assert mean_image_distance(a, b) == pytest.approx(math.sqrt((0.6**2 + 0.2**2) / 2))
    assert mean_image_distance(b, a) == mean_image_distance(a, b) and mean_image_distance(a, a) == 0
    assert mean_image_distance(a.repeat(1, 3, 1, 1), b.repeat(1, 3, 1, 1)) == pytest.approx(mean_image_distance(a, b))


def test_class_shares_count_absent_classes_and_refuse_unknown_ones():
    assert class_shares(torch.tensor([0, 2, 2, 2]), 4).tolist() == [0.25, 0, 0.75, 0]
    with pytest.raises(ValueError, match="not known"):
        class_shares(torch.tensor([-1, 0]), 2)


def test_nearest_neighbor_by_hand_and_against_distances():
    train = split([[0, 0], [200, 200], [0, 255]], [5, 7, 9])
    assert nearest_neighbor(train, split([[10, 20], [255, 190], [10, 200], [90, 90]], [5, 7, 9, 7])) == 0.75
    a, b = (load_domain(name).train for name in ("mnist", "optdigits"))
    a, b = subsample(a, 300, 0), subsample(b, 200, 1)
    nearest = torch.cdist(b.images.flatten(1).double(), a.images.flatten(1).double()).argmin(1)
    assert nearest_neighbor(a, b) == pytest.approx((a.labels[nearest] == b.labels).double().mean().item(), abs=0.006)


def test_subsamples_are_random_repeatable_and_disjoint_where_asked():
    train = split([[i, i] for i in range(100)], list(range(100)))
    one, rest = subsample(train, 30, 4), subsample(train, 70, 4, skip=30)
    assert sorted(one.labels.tolist() + rest.labels.tolist()) == list(range(100))
    assert one.labels.tolist() == subsample(train, 30, 4).labels.tolist() != subsample(train, 30, 5).labels.tolist()
    assert one.labels.tolist() != sorted(one.labels.tolist()) and torch.equal(one.images[:, 0, 0, 0].long(), one.labels)
    assert len(subsample(train, 1000, 0)) == 100


def test_comparable_repeats_gray_and_refuses_other_sizes():
    gray, color = split([[1, 2]], [0]), split([[3, 4]], [1], channels=3)
    made = comparable(domain(gray, gray), domain(color, color))
    assert [s.images.shape[1] for s in made] == [3] * 4 and made[0].images[0, :, 0].tolist() == [[1, 2]] * 3
    assert [s.images.shape[1] for s in comparable(domain(gray, gray), domain(gray, gray))] == [1] * 4
    wide = split([[1, 2, 3]], [0])
    with pytest.raises(ValueError, match="differ in size"):
        comparable(domain(gray, gray), domain(wide, wide))


# A pair


def test_a_pair_far_apart_and_a_domain_and_itself():
    generator = torch.Generator().manual_seed(0)
    def noise(low: int) -> Split:
        return Split(torch.randint(low, low + 40, (120, 1, 2, 2), generator=generator, dtype=torch.uint8),
                     torch.arange(120) % 2)
    dark, bright = domain(noise(0), noise(0), name="dark"), domain(noise(200), noise(200), name="bright")
    facts = pair_shift(dark, bright, 0, count=30, gallery=60, queries=50)
    assert facts["a_distance"] == {"linear": 2.0, "rbf": 2.0}
    assert facts["images"] == {"a_distance": 30, "gallery": [60, 60], "queries": [50, 50]}
    assert facts["mean_image_distance"] == pytest.approx(200 / 255, abs=0.03)
    assert facts["pixels"]["target"]["mean"] - facts["pixels"]["source"]["mean"] == pytest.approx(200 / 255, abs=0.03)
    assert facts["class_shares"]["source"] == [0.5, 0.5] and facts["class_shares"]["total_variation"] == 0
    itself = pair_shift(dark, dark, 0, count=50, gallery=60)
    assert abs(itself["a_distance"]["linear"]) < 0.8 and 0 < itself["mean_image_distance"] < 0.1


def test_the_pair_says_which_way_round_it_is():
    mnist, mnistm = load_domain("mnist"), load_domain("mnistm")
    there, back = (pair_shift(*pair, 0, count=50, gallery=500, queries=200) for pair in ((mnist, mnistm), (mnistm, mnist)))
    assert there["nearest"]["source to source"] == back["nearest"]["target to target"]
    assert there["nearest"]["source to target"] != back["nearest"]["source to target"]
    assert there["mean_image_distance"] == pytest.approx(back["mean_image_distance"])
    s_train, s_test, _, t_test = comparable(mnist, mnistm)
    gallery = subsample(s_train, 500, 0)
    assert there["nearest"]["source to source"] == nearest_neighbor(gallery, subsample(s_test, 200, 0))
    assert there["nearest"]["source to target"] == nearest_neighbor(gallery, subsample(t_test, 200, 0))


def test_without_labels_there_is_no_accuracy_and_with_other_classes_an_error():
    part = split([[i, 2 * i] for i in range(40)], [-1] * 40)
    facts = pair_shift(domain(part, part, ()), domain(part, part, (), name="other"), 0, count=10)
    assert "nearest" not in facts and "class_shares" not in facts and "a_distance" in facts
    known = split([[i, 2 * i] for i in range(40)], [0, 1] * 20)
    with pytest.raises(DataError, match="differ"):
        pair_shift(domain(known, known), domain(known, known, ("a", "c"), name="other"), 0, count=10)


def test_a_random_split_of_a_video_flatters():
    """Two objects drift from left to right, the second ahead: the future of the first looks like the past of the second."""
    place = 2 * torch.arange(100) + torch.tensor([[0], [41]])                                     # (2, 100)
    frames = torch.stack([place, torch.tensor([[0], [20]]).expand(-1, 100)], -1).to(torch.uint8)[:, :, None, None]
    labels = torch.arange(2)[:, None].expand(-1, 100)
    train, test = (Split(frames[:, part].flatten(0, 1), labels[:, part].flatten()) for part in (slice(70), slice(70, None)))
    leak = video_leak(domain(train, test), 0)
    assert leak["by time"] == nearest_neighbor(train, test) < leak["at random"]
    assert set(leak) == {"seed", "by time", "at random"} and video_leak(domain(train, test), 1)["seed"] == 1


# Choosing the best


@pytest.mark.parametrize("p, n, looks", [(0.9, 50, 10), (0.5, 20, 3), (0.7, 300, 1)])
def test_the_best_of_many_looks_against_simulation_and_the_sum_over_values(p: float, n: int, looks: int):
    draws = np.random.default_rng(0).binomial(n, p, (40_000, looks)).max(1) / n
    assert abs(draws.mean() - expected_best(p, n, looks)) < 5 * draws.std() / 200
    cdf = binom.cdf(np.arange(-1, n + 1), n, p) ** looks
    assert expected_best(p, n, looks) == pytest.approx((np.arange(n + 1) * np.diff(cdf)).sum() / n, abs=1e-10)


def test_the_best_of_one_look_is_honest_and_the_ends_cannot_gain():
    assert expected_best(0.83, 100, 1) == pytest.approx(0.83)
    assert expected_best(1.0, 100, 50) == pytest.approx(1) and expected_best(0.0, 100, 50) == pytest.approx(0, abs=1e-12)
    assert 0.83 < expected_best(0.83, 100, 2) < expected_best(0.83, 100, 20) < 1


# Contact sheets


def test_contact_sheet_takes_classes_in_turn_and_one_size():
    rows = contact_sheet({name: load_domain(name) for name in ("mnist", "mnistm")}, count=12, side=56)
    assert list(rows) == ["MNIST", "MNIST-M"] and all(r.shape == (12, 3, 56, 56) and r.dtype == torch.uint8 for r in rows.values())
    mnist = load_domain("mnist").train
    second = mnist.images[mnist.labels == 1][1]
    assert torch.equal(rows["MNIST"][11, :, ::2, ::2], second.expand(3, -1, -1))
    plain = split([[i, i] for i in range(9)], [-1] * 9)
    images = contact_sheet({"x": domain(plain, plain, ())}, count=3, side=2)["Toy"]
    assert images[:, 0, 0, 0].tolist() == [0, 4, 8]


# The record and the command


@pytest.mark.slow
def test_the_command_writes_what_the_function_measures(tmp_path: Path):
    out = tmp_path / "new" / "shift.json"
    words = ["data", "shift", "--out", str(out), "mnist-optdigits", "--seeds", "1", "--size", "sample"]
    done = subprocess.run([sys.executable, "-m", "cdlm", *words], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "1 pairs, 1 draws of each; 1 in the record" in done.stdout
    again = measure_shift([("mnist", "optdigits")], [0], "sample")
    written = json.loads(out.read_text())
    assert written["pairs"][0]["runs"][0]["nearest"] == again["pairs"][0]["runs"][0]["nearest"]
    assert written["data"] == again["data"] and written["found"]["mnist"]["size"] == "sample"
    wrong = subprocess.run([sys.executable, "-m", "cdlm", "data", "shift", "--out", str(out), "mnist-mars"],
                           capture_output=True, text=True, timeout=600)
    assert wrong.returncode == 1 and "unknown pair 'mnist-mars'; known: mnist-usps" in wrong.stderr


# Pair by pair


@pytest.fixture(scope="module")
def first() -> dict:
    """A record of two pairs, small and quick, as another machine would have it."""
    return {**measure(("mnist", "mnistm"), ("optdigits", "mnist")), "provenance": {"python": "of another machine"}}


def measure(*pairs: tuple[str, str], record: dict | None = None, seeds: tuple[int, ...] = (0,), count: int = 10) -> dict:
    return measure_shift(pairs, seeds, "sample", record=record, count=count, gallery=60, queries=20)


def entry(record: dict, *pair: str) -> dict:
    return next(entry for entry in record["pairs"] if (entry["source"], entry["target"]) == pair)


def test_a_pair_joins_the_record_and_changes_nothing_else(first: dict):
    before = json.dumps(first, sort_keys=True)
    both = measure(("mnist", "optdigits"), record=first)
    assert json.dumps(first, sort_keys=True) == before
    pairs = [("mnist", "optdigits"), ("optdigits", "mnist"), ("mnist", "mnistm")]                # as in SHIFT_PAIRS
    assert [(pair["source"], pair["target"]) for pair in both["pairs"]] == pairs
    for pair in pairs[1:]:
        assert entry(both, *pair) == entry(first, *pair)
    assert (both["data"], both["found"], both["provenance"]) == (first["data"], first["found"], first["provenance"])
    alone = measure(("mnist", "optdigits"))
    assert entry(both, "mnist", "optdigits") == {**entry(alone, "mnist", "optdigits"), "provenance": alone["provenance"]}


def test_a_pair_measured_again_takes_the_place_of_the_old_one(first: dict):
    old = json.loads(json.dumps(first))
    entry(old, "mnist", "mnistm")["runs"] = "of the past"
    again = measure(("mnist", "mnistm"), record=old)
    assert len(again["pairs"]) == 2
    assert entry(again, "mnist", "mnistm")["runs"] == entry(first, "mnist", "mnistm")["runs"]
    whole = measure(("mnist", "mnistm"), ("optdigits", "mnist"), record={**old, "settings": "others"})
    assert whole["settings"] == first["settings"] and "of the past" not in str(whole) + str(again)


def test_domains_that_no_pair_has_any_more_leave_the_record(first: dict):
    gone = {**first, "pairs": [entry(first, "mnist", "mnistm")]}
    both = measure(("mnistm", "mnist"), record=gone)
    assert set(both["found"]) == {"mnist", "mnistm"} and set(first["found"]) == {"mnist", "mnistm", "optdigits"}
    assert set(both["data"]) == {f"{name}/{part}" for name in both["found"] for part in ("train", "test")}


@pytest.mark.parametrize("other", [{"seeds": (0, 1)}, {"seeds": (1,)}, {"count": 11}], ids=str)
def test_other_settings_are_not_mixed_and_nothing_is_measured(first: dict, other: dict, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shift, "pair_shift", lambda *a, **k: pytest.fail("measured all the same"))
    with pytest.raises(DataError, match="the record was made with .*, this would be with .*: name another file"):
        measure(("mnist", "optdigits"), record=first, **other)


def test_other_images_are_not_mixed(first: dict, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shift, "pair_shift", lambda *a, **k: pytest.fail("measured all the same"))
    other = {**first, "data": {**first["data"], "mnist/test": "0" * 64}}
    with pytest.raises(DataError, match="other images of mnist/test than were found here: name another file"):
        measure(("mnist", "optdigits"), record=other)
    with pytest.raises(DataError, match="no record of shifts: it lacks data, found"):
        measure(("mnist", "optdigits"), record={"pairs": [], "settings": {}, "provenance": {}})


def test_the_film_stays_as_long_as_its_pair(first: dict):
    """What LineMod's film leaks is kept by whoever does not have it."""
    film = {"source": "linemod3d", "target": "linemodreal", "runs": []}
    kept = measure(("mnist", "optdigits"), record={**first, "pairs": [*first["pairs"], film], "video": ["a", "b"]})
    assert kept["video"] == ["a", "b"] and "linemodreal" not in kept["found"]
    assert "video" not in measure(("mnist", "optdigits"), record={**first, "video": ["a", "b"]})


@pytest.mark.slow
def test_the_command_adds_to_a_file_or_leaves_it_alone(tmp_path: Path):
    """What cannot be joined leaves the file as it was."""
    out = tmp_path / "shift.json"
    book = read_record("measurements/domain_shift", ROOT / "book/results")
    out.write_text(json.dumps({**book, "pairs": [pair for pair in book["pairs"] if pair["source"] == "usps"]}))
    before = out.read_bytes()
    words = [sys.executable, "-m", "cdlm", "data", "shift", "--out", str(out), "--size", "sample", "mnist-mnist"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert (done.returncode, out.read_bytes()) == (1, before)
    assert done.stderr.startswith("error: the record has other images of mnist/") and done.stderr.count("\n") == 1
    out.write_text("[]")
    assert subprocess.run(words, capture_output=True, timeout=300).returncode == 1 and out.read_text() == "[]"


def test_variants_and_pairs_name_domains_of_the_catalog():
    names = {VARIANTS.get(name, (name,))[0] for pair in SHIFT_PAIRS for name in pair}
    assert names == set(CATALOG)


@pytest.fixture(scope="module")
def record() -> dict:
    return read_record("measurements/domain_shift", ROOT / "book/results")


def test_the_record_has_its_provenance_and_all_pairs(record: dict):
    assert record["settings"] == {**COUNTS, "seeds": [0, 1, 2]}
    for provenance in [record["provenance"], *(pair["provenance"] for pair in record["pairs"] if "provenance" in pair)]:
        assert {"python", "packages", "code", "revision", "hardware", "threads"} <= set(provenance)
    assert [(pair["source"], pair["target"]) for pair in record["pairs"]] == [tuple(pair) for pair in SHIFT_PAIRS]
    for pair in record["pairs"]:
        assert [run["seed"] for run in pair["runs"]] == [0, 1, 2]
        assert all(-0.5 < value <= 2 for run in pair["runs"] for value in run["a_distance"].values())
    names = {name for pair in SHIFT_PAIRS for name in pair}
    assert set(record["found"]) == names and set(record["data"]) == {f"{n}/{part}" for n in names for part in ("train", "test")}
    assert [run["seed"] for run in record["video"]] == [0, 1, 2]


def test_the_record_agrees_with_the_data_that_come_with_packages(record: dict):
    """The optical digits are whole in scikit-learn; of the others only samples come with packages."""
    digits = open_domain("optdigits", "sample")
    assert record["data"]["optdigits/train"] == checksum(digits.train) and record["data"]["optdigits/test"] == checksum(digits.test)
    control = next(pair for pair in record["pairs"] if pair["source"] == pair["target"])
    assert all(abs(run["a_distance"]["linear"]) < 0.4 for run in control["runs"])


def test_the_record_says_what_the_chapter_says_of_it(record: dict):
    by_name = {(pair["source"], pair["target"]): pair["runs"] for pair in record["pairs"]}
    def across(a: str, b: str) -> float:
        return float(np.mean([run["nearest"]["source to target"] for run in by_name[a, b]]))
    assert all(run["a_distance"]["linear"] > 1.4 for pair, runs in by_name.items() for run in runs if pair[0] != pair[1])
    assert across("mnist", "mnistm") != across("mnistm", "mnist")
    assert across("fashion", "fashionm") != across("fashion", "fashionm-noise")
    assert all(run["at random"] >= run["by time"] for run in record["video"])


def test_there_are_no_images_in_the_record(record: dict):
    """Numbers only: no list longer than the classes of a domain."""
    def longest(content: object) -> int:
        if isinstance(content, dict):
            return max(map(longest, content.values()), default=0)
        return max(len(content), *map(longest, content)) if isinstance(content, list) and content else 0
    assert longest({**record, "pairs": 0}) <= 3 and max(longest(run) for pair in record["pairs"] for run in pair["runs"]) <= 10
