"""Findings: each sentence stands on the records, and falls when a record it rests on is broken."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT

from cdlm.experiments import findings
from cdlm.experiments.findings import say, stands

RESULTS = ROOT / "book/results"
RUNS, MEASUREMENTS = RESULTS / "runs", RESULTS / "measurements"
Change = Callable[[dict], object]


def accuracy(value: float) -> Change:
    """A run that ends with another target accuracy."""
    return lambda record: record["selected"]["last"].update(target_accuracy=value)


def snapshot(place: int, **values: float) -> Change:
    """A run with another snapshot."""
    return lambda record: record["snapshots"][place].update(values)


def in_all(**values: float) -> Change:
    """A record of several runs with other numbers in each."""
    return lambda record: [run.update(values) for run in record["runs"]]


# each finding, the folder it reads, the records that are changed, and how
NOISY = "mnist-usps_improved-g0.5-0.5_s*"
BREAKS: list[tuple[Callable[[Path], str], Path, str, Change]] = [
    (findings.as_stated, RUNS, "usps-mnist_faithful_s*", accuracy(0.5)),
    (findings.as_stated, RUNS, "mnist-usps_faithful_s*", accuracy(0.95)),
    (findings.improved_beside_dann, RUNS, "mnist-mnistm_improved_s*", accuracy(0.9)),
    (findings.improved_beside_dann, RUNS, "usps-mnist_improved_s*", accuracy(0.8)),
    (findings.control_unbeaten, RUNS, "usps-mnist_improved_s*", accuracy(0.999)),
    (findings.control_unbeaten, RUNS, "mnist-usps_improved_s*", snapshot(-1, seconds=1.0)),
    (findings.paper_missed, RUNS, "mnist-usps_improved_s*", accuracy(0.9)),
    (findings.still_rising, RUNS, "mnist-usps_improved_s*", snapshot(-1, target_accuracy=0.5)),
    (findings.clothes_and_bounds, RUNS, "fashion-fashionm_target-only_s*", accuracy(0.95)),
    (findings.changed_images, RUNS, "fashion-fashionm_source-only-bare_s*", accuracy(0.55)),
    (findings.faithful_learns_nothing, RUNS, "fashion-fashionm_faithful_s*", snapshot(-1, target_accuracy=0.6)),
    (findings.without_consistency, RUNS, "mnist-usps_improved-no-lc_s*", accuracy(0.6)),
    (findings.depth_of_features, RUNS, "mnist-usps_improved-conv4_s*", accuracy(0.99)),
    (findings.noise_in_the_test_code, RUNS, NOISY, lambda record: record["paths"].update(x_tilde_t=0.96)),
    (findings.noise_in_the_test_code, RUNS, NOISY, lambda record: record["paths"].update(x_hat_ts=0.8)),
    (findings.partial_modulations, RUNS, "mnist-usps_improved-pm1_s*", accuracy(0.5)),
    (findings.ingredients_and_seeds, RUNS, "fashion-fashionm_no-decoder_s*", accuracy(0.5)),
    (findings.at_equal_seconds, RUNS, "mnist-usps_improved_s*", snapshot(0, seconds=0.1, target_accuracy=1.0)),
    (findings.time_on_record, RUNS, "*", lambda record: "drop"),
    (findings.control_of_the_paper, RUNS, "usps-mnist_source-only-bare_s*", accuracy(0.9)),
    (findings.weights_matter, RUNS, NOISY, accuracy(0.99)),
    (findings.learned_so_far, RUNS, "linemod3d-linemodreal_*", lambda record: record.update(source_accuracy=0.5)),
    (findings.what_drawing_costs, RUNS, "linemod3d-linemodreal_improved_s*",
     lambda record: record["paths"].update(x_tilde_t=1.0)),
    (findings.no_nearer_than_dann, RUNS, "usps-mnist_improved_s*", lambda record: record["a_distance"].update(h=1.9)),
    (findings.convergence, RUNS, "mnist-usps_improved_s*", snapshot(0, target_accuracy=0.0)),
    (findings.failed_translations, MEASUREMENTS, "translations_mnistm-mnist", in_all(failures=999)),
    (
        findings.mixed_and_right,
        MEASUREMENTS,
        "maps_mnist-mnistm",
        lambda record: [run["numbers"]["h"].update(nearest_agreement=1.0) for run in record["runs"]],
    ),
    (findings.both_directions, RESULTS, "optdigits-mnist_cdlm", in_all(target_accuracy=0.4)),
    (findings.negative_transfer, RESULTS, "optdigits-mnist_dann-adam", in_all(target_accuracy=0.9)),
]


def broken(folder: Path, pattern: str, change: Change, place: Path) -> Path:
    """The records of a folder in another one, those of a pattern changed."""
    changed = set(folder.glob(f"{pattern}.json"))
    assert changed, f"no record {pattern}"
    for path in folder.glob("*.json"):
        if path not in changed:
            (place / path.name).symlink_to(path)
            continue
        record = json.loads(path.read_text(encoding="utf-8"))
        if change(record) != "drop":
            (place / path.name).write_text(json.dumps(record), encoding="utf-8")
    return place


def names(break_: tuple) -> str:
    return f"{break_[0].__name__}-{break_[2]}"


FINDINGS = {found[0].__name__: found[:2] for found in BREAKS}


@pytest.mark.parametrize("finding, folder", FINDINGS.values(), ids=FINDINGS)
def test_the_records_bear_it(finding: Callable[[Path], str], folder: Path) -> None:
    sentence = finding(folder)
    assert sentence.endswith(".") and "nan" not in sentence and sentence[0].isupper()


@pytest.mark.parametrize("finding, folder, pattern, change", BREAKS, ids=map(names, BREAKS))
def test_a_broken_record_breaks_the_sentence(
    finding: Callable[[Path], str], folder: Path, pattern: str, change: Change, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match="the records do not say"):
        finding(broken(folder, pattern, change, tmp_path))


def test_every_finding_is_broken_here() -> None:
    public = [getattr(findings, name) for name in findings.__all__]
    sentences = {
        one.__name__ for one in public
        if inspect.isfunction(one) and inspect.get_annotations(one).get("return") == "str"
        and list(inspect.signature(one).parameters) in (["results"], ["measurements"])
    }  # fmt: skip
    assert sentences == {found[0].__name__ for found in BREAKS}


def test_a_sentence_stands_or_falls_with_each_of_its_claims() -> None:
    assert stands("So it is.") == stands("So it is.", True, True) == "So it is."
    with pytest.raises(AssertionError, match="^the records do not say: So it is.$"):
        stands("So it is.", True, False, True)


def test_sentences_are_shown_a_line_each() -> None:
    said = say("One.", "Two " + "and more " * 20 + ".")
    assert said._repr_markdown_().splitlines() == ["- One.", f"- {said[1]}"]
    lines = repr(said).splitlines()
    assert lines[0] == "- One." and max(map(len, lines)) <= 95 and all(line.startswith("  ") for line in lines[2:])


def test_the_control_is_compared_by_sign_and_by_welch() -> None:
    signs, combined = findings.against_the_control(RUNS)
    assert signs == pytest.approx(2 * 0.5**6) and combined < 1e-4
