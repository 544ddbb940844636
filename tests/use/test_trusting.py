"""Trust without labels: temperatures and estimates against numbers found by hand, where they must fail, and what warns."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from typer.testing import CliRunner

from cdlm.cli.app import app
from cdlm.files import RunError, read_json
from cdlm.measurements.trust import (
    ENDS,
    adapts,
    count_warnings,
    feature_distance,
    joined_trust,
    measure_trust,
    some_of,
    trust_record,
)
from cdlm.runs.record import read_record
from cdlm.runs.run import load_run, run
from cdlm.runs.spec import RunSpec
from cdlm.use.trust import (
    RULE,
    Trust,
    calibration_error,
    confidence,
    confidence_estimate,
    domain_logits,
    estimated_accuracy,
    fit_temperature,
    is_trusted,
    learn_trust,
    path_agreement,
    reasons,
    reliability,
    signs,
    threshold_of,
)

MEASUREMENTS = ROOT / "book/results/measurements"


def two_classes(*sure: float) -> Tensor:
    """Logits (N, 2) of class 0 with these confidences."""
    p = torch.tensor(sure, dtype=torch.float64)
    return torch.stack([p.log(), (1 - p).log()], 1)


def made(count: int, seed: int, scale: float = 2.0, classes: int = 5) -> tuple[Tensor, Tensor]:
    """Logits that are calibrated by construction, and labels drawn by them."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(count, classes, generator=generator, dtype=torch.float64)
    return logits, torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]


cases = st.tuples(st.integers(2, 60), st.integers(0, 10_000), st.floats(0.1, 5.0), st.integers(2, 7))


# the temperature


@pytest.mark.parametrize("factor", [0.5, 1.0, 4.0])
def test_a_temperature_that_is_known_is_found(factor: float) -> None:
    logits, labels = made(20_000, 0)
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.05)


def test_a_temperature_by_hand() -> None:
    """Two classes, logits 1 and 0, three of four right: softmax(1 / T) must be 3/4, so T = 1 / log 3."""
    logits = torch.tensor([[1.0, 0.0]] * 4)
    assert fit_temperature(logits, torch.tensor([0, 0, 0, 1])) == pytest.approx(1 / math.log(3), abs=1e-3)


def test_temperatures_stay_in_their_interval() -> None:
    logits = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    assert 0.05 <= fit_temperature(logits, torch.tensor([0, 0])) < 0.1  # never wrong: as sure as allowed
    assert 19 < fit_temperature(logits, torch.tensor([1, 1])) <= 20  # never right: as unsure as allowed


@settings(max_examples=25, deadline=None)
@given(cases)
def test_no_temperature_on_a_grid_is_better(case: tuple) -> None:
    count, seed, scale, classes = case
    logits, labels = made(count, seed, scale, classes)
    best = torch.nn.functional.cross_entropy(logits / fit_temperature(logits, labels), labels)
    for t in torch.logspace(math.log10(0.05), math.log10(20), 60, dtype=torch.float64):
        assert best <= torch.nn.functional.cross_entropy(logits / t, labels) + 1e-6


# the estimates


def test_average_thresholded_confidence_by_hand() -> None:
    assert threshold_of(torch.tensor([0.6, 0.95, 0.7, 0.9, 0.8]), 3) == pytest.approx(0.8)
    trust, asked = Trust(0.8, 0.6), two_classes(0.99, 0.85, 0.75, 0.55)
    assert is_trusted(trust, asked).tolist() == [True, True, False, False]
    assert estimated_accuracy(trust, asked) == 0.5


def test_what_is_learned_of_five_images_by_hand() -> None:
    logits, labels = two_classes(0.95, 0.9, 0.8, 0.7, 0.6), torch.tensor([0, 1, 0, 0, 1])
    trust = learn_trust(logits, labels)
    assert trust.source_accuracy == pytest.approx(0.6) and trust.shares == (0.6, 0.4)
    assert trust.threshold == pytest.approx(float(confidence(logits, trust.temperature)[2]))
    assert trust.source_confidence == pytest.approx(float(confidence(logits, trust.temperature).mean()))


def test_difference_of_confidences_by_hand() -> None:
    trust = Trust(0.8, 0.9, 1.0, 0.95)
    assert confidence_estimate(trust, two_classes(0.8, 0.6)) == pytest.approx(0.9 - (0.95 - 0.7))
    assert confidence_estimate(Trust(0.8, 0.1, 1.0, 0.95), two_classes(0.5)) == 0.0
    assert confidence_estimate(Trust(0.8, 0.9, 1.0, 0.5), two_classes(0.99)) == 1.0
    with pytest.raises(ValueError, match="use learn_trust"):
        confidence_estimate(Trust(0.8, 0.9), two_classes(0.9))


@settings(max_examples=40, deadline=None)
@given(cases)
def test_on_the_images_it_was_learned_from_both_estimates_are_the_accuracy(case: tuple) -> None:
    count, seed, scale, classes = case
    logits, labels = made(count, seed, scale, classes)
    trust = learn_trust(logits, labels)
    assert estimated_accuracy(trust, logits) == pytest.approx(trust.source_accuracy)
    assert confidence_estimate(trust, logits) == pytest.approx(trust.source_accuracy)


def test_without_a_shift_both_estimates_are_right_on_the_average() -> None:
    gaps = []
    for seed in range(60):
        logits, labels = made(1000, seed)
        trust, (asked, truth) = learn_trust(logits[:500], labels[:500]), (logits[500:], labels[500:])
        right = float((asked.argmax(1) == truth).double().mean())
        gaps.append([estimated_accuracy(trust, asked) - right, confidence_estimate(trust, asked) - right])
    gaps = torch.tensor(gaps)
    assert ((gaps.mean(0).abs() / (gaps.std(0) / len(gaps) ** 0.5)) < 3).all() and gaps.std(0).max() < 0.05


def test_a_calibrated_shift_is_seen_by_difference_of_confidences() -> None:
    logits, labels = made(20_000, 0, scale=4.0)
    asked, truth = made(20_000, 1, scale=1.0)
    right = float((asked.argmax(1) == truth).double().mean())
    trust = learn_trust(logits, labels)
    assert trust.source_accuracy - right > 0.2
    assert confidence_estimate(trust, asked) == pytest.approx(right, abs=0.02)


@settings(max_examples=25, deadline=None)
@given(cases, st.integers(1, 6))
def test_exchanged_classes_change_no_estimate(case: tuple, turn: int) -> None:
    count, seed, scale, classes = case
    logits, labels = made(count, seed, scale, classes)
    logits = logits.double()
    trust = learn_trust(logits, labels)
    # Off the confidence of an image, where the order in which a softmax is summed would decide.
    trust = replace(trust, threshold=trust.threshold - 1e-9)
    assert estimated_accuracy(trust, logits.roll(turn, 1)) == estimated_accuracy(trust, logits)


@settings(max_examples=25, deadline=None)
@given(cases, st.floats(1.0, 4.0))
def test_surer_predictions_lower_no_estimate(case: tuple, factor: float) -> None:
    count, seed, scale, classes = case
    logits, labels = made(count, seed, scale, classes)
    trust = learn_trust(logits, labels)
    for estimate in (estimated_accuracy, confidence_estimate):
        assert estimate(trust, factor * logits) >= estimate(trust, logits) - 1e-12


@settings(max_examples=25, deadline=None)
@given(cases)
def test_the_order_of_images_does_not_matter(case: tuple) -> None:
    count, seed, scale, classes = case
    logits, labels = made(count, seed, scale, classes)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    one, other = learn_trust(logits, labels), learn_trust(logits[order], labels[order])
    assert other.threshold == pytest.approx(one.threshold) and other.shares == pytest.approx(one.shares)


def test_none_right_and_all_right() -> None:
    logits = two_classes(0.95, 0.8)
    none, every = learn_trust(logits, torch.tensor([1, 1])), learn_trust(logits, torch.tensor([0, 0]))
    assert none.threshold == 2.0 and estimated_accuracy(none, two_classes(1 - 1e-12)) == 0
    assert estimated_accuracy(every, logits) == 1


def test_a_trust_survives_json() -> None:
    import json

    trust = learn_trust(*made(50, 3))
    back = json.loads(json.dumps(asdict(trust)))
    assert Trust(**(back | {"shares": tuple(back["shares"])})) == trust


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (torch.zeros(3), torch.zeros(3, dtype=torch.long)),
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)),
        (torch.full((2, 3), math.nan), torch.tensor([0, 1])),
        (torch.full((2, 3), -math.inf), torch.tensor([0, 1])),
        (torch.zeros(2, 3), torch.tensor([0])),
        (torch.zeros(2, 3), torch.tensor([0, 3])),
        (torch.zeros(2, 3), torch.tensor([-1, 0])),
    ],
)
def test_what_is_no_logits_or_labels_is_refused(logits: Tensor, labels: Tensor) -> None:
    with pytest.raises(ValueError, match="logits must be finite|need as many labels"):
        learn_trust(logits, labels)


# reliability


def test_reliability_by_hand() -> None:
    bins = reliability(two_classes(0.55, 0.95, 0.97), torch.tensor([1, 0, 1]))
    assert bins.shape == (10, 3) and bins[5].tolist() == pytest.approx([1, 0.55, 0])
    assert bins[9].tolist() == pytest.approx([2, 0.96, 0.5]) and float(bins[:, 0].sum()) == 3
    assert calibration_error(bins) == pytest.approx((0.55 + 2 * 0.46) / 3)


def test_confidence_one_has_a_bin() -> None:
    assert reliability(torch.tensor([[800.0, 0.0]]), torch.tensor([0]))[9].tolist() == [1, 1, 1]


def test_scaling_repairs_what_was_made_too_sure() -> None:
    logits, labels = made(20_000, 2)
    raw, scaled = (calibration_error(reliability(3 * logits, labels, t)) for t in (1.0, fit_temperature(3 * logits, labels)))
    assert scaled < 0.02 < raw


# signs and rule


def test_agreement_by_hand() -> None:
    one = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    other = torch.tensor([[2.0, 0.0], [1.0, 0.0], [3.0, 0.0], [0.0, 1.0]])
    assert path_agreement({"x_t": one, "h": other}) == 0.75 and path_agreement({"x_t": one}) == 1


def test_signs_by_hand() -> None:
    trust = Trust(0.8, 0.9, 1.0, 0.95, (0.5, 0.5))
    found = signs(trust, two_classes(0.9, 0.6), a_distance=1.5, baseline=0.75)
    assert found["estimate"] == 0.5 and found["other_estimate"] == pytest.approx(0.7)
    assert found["estimates_apart"] == pytest.approx(0.2) and found["shares_apart"] == pytest.approx(0.5)
    assert found["a_distance"] == 1.5 and found["behind_source_only"] == 0.25 and "agreement" not in found
    entropy = [-sum(q * math.log(q) for q in (p, 1 - p)) for p in (0.9, 0.6)]
    assert found["entropy"] == pytest.approx(sum(entropy) / 2)


GOOD = {"source_accuracy": 0.99, "estimate": 0.95, "other_estimate": 0.94, "estimates_apart": 0.01, "entropy": 0.1,
        "shares_apart": 0.02, "agreement": 0.97, "a_distance": 1.0, "behind_source_only": -0.1}  # fmt: skip


def test_nothing_speaks_against_a_good_run() -> None:
    assert reasons(GOOD) == [] and reasons({}) == []


@pytest.mark.parametrize("rule", RULE, ids=lambda rule: rule.sign)
def test_each_sign_beyond_its_limit_gives_one_whole_sentence(rule) -> None:
    step = 0.05 if rule.above else -0.05
    assert reasons(GOOD | {rule.sign: rule.limit}) == []
    (sentence,) = reasons(GOOD | {rule.sign: rule.limit + step})
    assert "{" not in sentence and "nan" not in sentence and not sentence.endswith(".")


def test_every_sign_of_the_rule_is_found() -> None:
    logits, labels = made(50, 0)
    found = signs(learn_trust(logits, labels), logits, {"x_t": logits}, 1.0, 0.5)
    assert {rule.sign for rule in RULE} <= found.keys()


# the record


def run_of(truth: float, estimate: float, **more: float) -> dict:
    """A run of the record, as far as the counting of warnings looks."""
    return {"target_accuracy": truth, "signs": GOOD | {"estimate": estimate}} | more


def test_warnings_are_counted_by_hand() -> None:
    runs = [run_of(0.9, 0.92), run_of(0.9, 0.65), run_of(0.5, 0.55), run_of(0.6, 0.9), run_of(0.8, 0.8, source_only_accuracy=0.85)]
    assert [[name for name, ended in ENDS.items() if ended(one)] for one in runs] == [
        [], ["estimate off by 10 points"],
        ["below 70 %"], ["below 70 %", "estimate off by 10 points"], ["below source-only"]]  # fmt: skip
    found = count_warnings(runs)
    assert found == (5, 2, 4, 2) and found.precision == 1.0 and found.recall == 0.5
    assert count_warnings(runs, ends=["below 70 %"]) == (5, 2, 2, 1)
    assert math.isnan(count_warnings(runs[:1]).precision) and math.isnan(count_warnings(runs[:1]).recall)


@pytest.mark.parametrize(
    ("method", "set_to", "is_adapted"),
    [("source", {}, False), ("plain", {"width": 4}, False), ("plain", {"reversal": 1.0}, True),
     ("plain", {"domain_statistics": True}, True), ("cdlm", {}, True), ("dann", {}, True),
     ("dann", {"weight": 0.0}, False), ("mcd", {}, True)],
)  # fmt: skip
def test_who_adapts(method: str, set_to: dict, is_adapted: bool) -> None:
    assert adapts(RunSpec(method, "mnist", "optdigits", settings=set_to)) is is_adapted


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A source-only run, one of DANN and one of CDLM, too short to have learned anything."""
    place, found = tmp_path_factory.mktemp("runs"), []
    for method, set_to in (("plain", {"width": 4}), ("dann", {}), ("cdlm", {"width": 4})):
        run(RunSpec(method, "optdigits", "mnist", 1, 2, 8, set_to), place / method)
        found.append(place / method)
    return found


def test_a_record_keeps_estimates_and_truth_apart(folders: list[Path]) -> None:
    record = measure_trust(folders)
    assert record["measured"] == "trust" and [one["sign"] for one in record["rule"]] == [one.sign for one in RULE]
    first, *others = record["runs"]
    assert "source_only_accuracy" not in first and "behind_source_only" not in first["signs"]
    for one in others:
        assert one["source_only_accuracy"] == first["target_accuracy"]
        assert one["signs"]["behind_source_only"] == pytest.approx(first["signs"]["estimate"] - one["signs"]["estimate"])
    for one in record["runs"]:
        assert one["trusted"]["count"] + one["others"]["count"] == one["images"]["target"]
        right = one["trusted"]["right"] + one["others"]["right"]
        assert right / one["images"]["target"] == pytest.approx(one["target_accuracy"])
        assert one["trusted"]["count"] / one["images"]["target"] == pytest.approx(one["signs"]["estimate"])
        assert sum(row[0] for row in one["reliability"]["target, raw"]) == one["images"]["target"]


def test_the_signs_of_a_run_are_those_of_its_logits(folders: list[Path]) -> None:
    found = trust_record(folders[2], count=200)
    _, model, source, target = load_run(folders[2])
    held, asked = some_of(source.test, 200), some_of(target.test, 200)
    trust = learn_trust(domain_logits(model, held.images, "source"), held.labels)
    assert found["trust"] == asdict(trust) and found["images"] == {"source": 200, "target": 200}
    assert found["signs"]["estimate"] == estimated_accuracy(trust, domain_logits(model, asked.images))
    assert found["signs"]["a_distance"] == feature_distance(model, held.images, asked.images)


def test_a_run_without_target_labels_has_no_truth(folders: list[Path], tmp_path: Path) -> None:
    from PIL import Image

    images = tmp_path / "images"
    images.mkdir()
    for number in range(12):
        Image.new("L", (28, 28), 20 * number).save(images / f"{number}.png")
    run(RunSpec("plain", "optdigits", str(images), 1, 2, 4, {"width": 4}), tmp_path / "run")
    with pytest.raises(RunError, match="no labels, and this is counted by labels"):
        trust_record(tmp_path / "run")


def test_the_record_is_made_by_a_command(folders: list[Path], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["measure", "trust", *map(str, folders[:1]), "--out", str(tmp_path / "trust.json")])
    assert done.exit_code == 0, done.output
    assert read_json(tmp_path / "trust.json")["runs"][0]["signs"].keys() >= {"estimate", "agreement", "a_distance"}


def test_the_rule_of_the_record_is_the_rule() -> None:
    record = read_record("trust", MEASUREMENTS)
    assert record["rule"] == [one._asdict() for one in RULE]
    joined = joined_trust([dict(one, signs=dict(one["signs"])) for one in record["runs"]])
    assert joined["runs"] == record["runs"]


def test_what_the_record_says_adds_up() -> None:
    for one in read_record("trust", MEASUREMENTS)["runs"]:
        assert one["trusted"]["count"] / one["images"]["target"] == pytest.approx(one["signs"]["estimate"])
        assert (one["trusted"]["right"] + one["others"]["right"]) / one["images"]["target"] == pytest.approx(one["target_accuracy"])
        assert one["signs"]["estimates_apart"] == pytest.approx(abs(one["signs"]["estimate"] - one["signs"]["other_estimate"]))
