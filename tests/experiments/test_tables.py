"""Rows of tables from records: intervals, the word for a difference, and what is shown and drawn of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cdlm.evaluation.selection import RULES
from cdlm.experiments.claims import EXCLUDED, Claim, accuracy_interval, findings, prediction_interval, pronounce, single_interval
from cdlm.experiments.paper import PAPER, TASKS
from cdlm.experiments.plan import FAITHFUL, IMPROVED, TABLE_TASKS, Variant, job, table_rows
from cdlm.experiments.tables import (
    BARE,
    PATHS,
    ROW_COLORS,
    TASK_NAMES,
    Comparison,
    accuracy_by_seed,
    accuracy_curves,
    accuracy_dots,
    cell_entry,
    compare_rows,
    compare_seeds,
    comparison_sheet,
    comparisons,
    equal_within,
    last_gain,
    mean_of,
    miss,
    paired,
    path_accuracies,
    points,
    read_table,
    row_accuracies,
    row_variants,
    rule_gains,
    table_sheet,
    told,
    welch_interval,
    winner,
)
from cdlm.files import RunError

FIRST, SECOND = list(RULES)[:2]
numbers = st.lists(st.floats(-1, 1), min_size=2, max_size=8)


def made_run(seed: int, last: float, curve: tuple[float, ...] = (0.1, 0.2, 0.3)) -> dict:
    """What tables read of a record: every rule takes another snapshot, the oracle the best."""
    steps = [10 * (i + 1) for i in range(len(curve))]
    selected = {rule: {"step": steps[i % len(curve)], "target_accuracy": curve[i % len(curve)]} for i, rule in enumerate(RULES)}
    selected |= {"last": {"step": steps[-1], "target_accuracy": last}, "oracle": {"step": steps[0], "target_accuracy": max(curve)}}
    snapshots = [{"step": step, "target_accuracy": value, "seconds": 1.0, "scores": {}} for step, value in zip(steps, curve)]
    paths = {path: max(0.0, last - 0.1 * i) for i, path in enumerate(PATHS)}
    return {"selected": selected, "snapshots": snapshots, "paths": paths, "target_accuracy": last}


def store(folder: Path, variant: Variant, task: str, accuracies: Mapping[int, float]) -> None:
    """Records of a variant on a task, as the queue would have written them, with these accuracies by seed."""
    rest = dict.fromkeys(("config", "a_distance", "data", "provenance"), {}) | {"log": [], "source_accuracy": 0.0, "seconds": 0.0}
    for seed, value in accuracies.items():
        work = job(variant, task, seed)
        text = json.dumps(rest | {"spec": asdict(work.spec)} | made_run(seed, value))
        (folder / f"{work.name}.json").write_text(text, encoding="utf-8")


# Rows and records


def test_rows_that_share_a_name_are_told_apart_by_their_recipe() -> None:
    rows = row_variants("table2")
    assert rows["CDLM faithful"] is FAITHFUL and rows["CDLM improved"] is IMPROVED and "CDLM" not in rows
    assert len(rows) == len(table_rows()["table2"])
    assert list(row_variants("table3")) == [row for row, *_ in table_rows()["table3"]], "no recipe where a name stands once"
    with pytest.raises(RunError, match="'table9' is no table of ours"):
        row_variants("table9")


def test_every_row_of_table_2_has_a_color_and_every_task_a_name() -> None:
    assert set(ROW_COLORS) == set(row_variants("table2")) and set(TASK_NAMES) == set(TASKS)


def test_records_are_read_by_row_task_and_seed(tmp_path: Path) -> None:
    store(tmp_path, IMPROVED, "mnist-usps", {3: 0.8, 1: 0.9})
    store(tmp_path, FAITHFUL, "usps-mnist", {2: 0.4})
    table = read_table("table2", tmp_path)
    assert list(table) == list(row_variants("table2")) and all(set(by_task) == set(TASKS) for by_task in table.values())
    assert accuracy_by_seed(table["CDLM improved"]["mnist-usps"]) == {1: 0.9, 3: 0.8}
    assert accuracy_by_seed(table["CDLM faithful"]["usps-mnist"]) == {2: 0.4}
    assert not table["CDLM faithful"]["mnist-usps"] and not table["DANN"]["usps-mnist"]
    assert list(read_table("table2", tmp_path, ["usps-mnist"])["DANN"]) == ["usps-mnist"]


def test_a_row_for_gray_tasks_is_not_asked_for_in_color(tmp_path: Path) -> None:
    table = read_table("ingredients", tmp_path)
    assert list(table["without self-training"]) == ["mnist-usps"]
    assert list(table["all"]) == list(TABLE_TASKS["ingredients"])


def test_accuracies_by_rule_and_by_path() -> None:
    runs = {1: made_run(1, 0.5), 2: made_run(2, 0.7)}
    assert accuracy_by_seed(runs) == {1: 0.5, 2: 0.7}
    assert accuracy_by_seed(runs, SECOND) == {1: 0.2, 2: 0.2} and accuracy_by_seed(runs, "oracle") == {1: 0.3, 2: 0.3}
    assert accuracy_by_seed(runs, path="h") == pytest.approx({1: 0.2, 2: 0.4})
    assert path_accuracies(runs)["x_hat_ts"] == pytest.approx({1: 0.4, 2: 0.6}) and list(path_accuracies(runs)) == list(PATHS)


# Numbers as text


@pytest.mark.parametrize("values, text", [
    ({}, "-"), ({4: 0.5}, "0.500 (1)"), ({1: 0.9, 2: 0.8}, "0.850 ± 0.071 (2)"), ({1: 0.9, 2: 0.9, 5: 0.9}, "0.900 ± 0.000 (3)")])
def test_a_cell_as_text(values: dict[int, float], text: str) -> None:
    assert told(values) == text


def test_a_table_has_our_rows_and_then_the_papers() -> None:
    ours = {"CDLM improved": {"mnist-usps": {1: 0.9, 2: 0.8}}, "no decoder": {"mnist-usps": {}}, "DANN": {"usps-mnist": {1: 0.1}}}
    sheet = table_sheet("table2", ours, ["mnist-usps"])
    assert sheet.heads == ("", "MNIST to USPS")
    rows = {row[0]: row[1].text for row in sheet.rows}
    assert rows["CDLM improved"] == "0.850 ± 0.071 (2) †" and rows["no decoder"] == "-" and rows["DANN"] == ""
    assert rows["CDLM, in the paper"] == f"{PAPER['table2']['CDLM']['mnist-usps']:.3f}"
    assert list(rows)[3:] == [f"{row}, in the paper" for row in PAPER["table2"]]


def test_few_seeds_have_a_dagger() -> None:
    texts = [cell_entry(dict.fromkeys(range(count), 0.5)).text for count in range(5)]
    assert [text.endswith("†") for text in texts] == [False, True, True, False, False]


def test_a_row_is_marked_only_where_intervals_allow_it() -> None:
    near = {1: 0.90, 2: 0.91, 3: 0.92}
    far = {seed: value - 0.2 for seed, value in near.items()}
    rows = {"a": {"t": near}, "b": {"t": far}}
    assert winner(rows, "t") == "a"
    assert winner(rows | {"c": {"t": {1: 0.89, 2: 0.92, 3: 0.91}}}, "t") is None, "two that cannot be told apart"
    assert winner(rows | {"target only": {"t": {1: 0.99, 2: 0.99, 3: 0.98}}}, "t") == "a", "a bound does not compete"
    assert winner(rows | {"c": {"t": {1: 0.5}}}, "t") is None, "one seed decides nothing"
    assert winner({"a": {"t": near}}, "t") is None and winner({}, "t") is None
    first, second = table_sheet("no table", {"a": {"mnist-usps": near}, "b": {"mnist-usps": far}}, ["mnist-usps"]).rows
    assert first[1].marked and not second[1].marked


def test_comparisons_as_a_sheet() -> None:
    alone = Comparison("one seed", (1, 3), 0.2, math.nan, math.nan)
    found = {("a", "t"): Comparison("below", (3, 4), -0.1, -0.2, -0.05), ("b", "t"): alone}
    sheet = comparison_sheet(("row", "task"), found)
    assert sheet.heads == ("row", "task", "ours", "from", "to", "verdict", "seeds")
    told_of = [[getattr(cell, "text", cell) for cell in row] for row in sheet.rows]
    assert told_of[0] == ["a", "t", "-0.100", "-0.200", "-0.050", "below", "3 and 4"]
    assert told_of[1] == ["b", "t", "+0.200", "-", "-", "one seed", "1 and 3"]
    beside = comparison_sheet(("row", "task"), found, {("a", "t"): 0.3})
    assert [row[2].text for row in beside.rows] == ["+0.300", "-"] and beside.heads[2] == "the paper"


def test_accuracies_of_a_table(tmp_path: Path) -> None:
    store(tmp_path, IMPROVED, "mnist-usps", {3: 0.8, 1: 0.9})
    ours = row_accuracies("table2", tmp_path)
    assert ours["CDLM improved"]["mnist-usps"] == {1: 0.9, 3: 0.8} and ours["DANN"]["mnist-usps"] == {}
    assert list(row_accuracies("table2", tmp_path, ["usps-mnist"])["DANN"]) == ["usps-mnist"]


def test_points_and_means() -> None:
    assert [points(torch.tensor(values)) for values in ([0.01, 0.02], [-0.01], [])] == ["+1.50", "-1.00", "-"]
    assert mean_of({1: 0.2, 9: 0.4}) == pytest.approx(0.3) and math.isnan(mean_of({}))


@pytest.mark.parametrize("values, text", [
    ({}, "no runs"), ({1: 0.95}, "misses 0.961 by 1.1 points (one seed)"),
    ({1: 0.95, 2: 0.951, 3: 0.949}, "misses 0.961 by 1.1 points (below)"),
    ({1: 0.971, 2: 0.972, 3: 0.97}, "reaches 0.961, +1.0 points (above)"),
    ({1: 0.99, 2: 0.94}, "reaches 0.961, +0.4 points (not distinguishable)")])
def test_a_miss_in_words(values: dict[int, float], text: str) -> None:
    assert miss(values, 0.961) == text


# Pairs and words


def test_pairs_are_of_the_seeds_that_both_have() -> None:
    assert paired({3: 0.5, 1: 0.9, 2: 0.7}, {1: 0.1, 3: 0.4, 8: 0.0}).tolist() == pytest.approx([0.8, 0.1]), "in the order of seeds"
    assert paired({2: 0.5, 1: 0.9}, 0.5).tolist() == pytest.approx([0.4, 0.0])
    assert paired({1: 0.5}, {2: 0.5}).numel() == 0 and paired({}, 0.5).numel() == 0
    assert paired({1: 0.5}, 0.5).dtype == torch.float64


@given(numbers)
def test_the_interval_is_that_of_scipy(values: list[float]) -> None:
    found, n = compare_seeds(torch.tensor(values, dtype=torch.float64)), len(values)
    mean, error = sum(values) / n, torch.tensor(values, dtype=torch.float64).std().item() / math.sqrt(n)
    reach = stats.t.ppf(0.975, n - 1) * error
    assert (found.mean, found.low, found.high) == pytest.approx((mean, mean - reach, mean + reach), abs=1e-9)
    assert found.seeds == (n,)


@given(numbers)
def test_words_turn_round_with_the_sign_and_do_not_mind_the_order(values: list[float]) -> None:
    d = torch.tensor(values, dtype=torch.float64)
    other = {"above": "below", "below": "above", "not distinguishable": "not distinguishable"}
    assert compare_seeds(-d).word == other[compare_seeds(d).word]
    assert compare_seeds(d.flip(0)).word == compare_seeds(d).word
    assert compare_seeds(d, 0.5).word == compare_seeds(d).word or compare_seeds(d).word == "not distinguishable", (
        "a lower level decides more"
    )


@pytest.mark.parametrize("differences, word", [
    ([], "no runs"), ([0.3], "one seed"), ([0.1, 0.12, 0.11], "above"), ([-0.1, -0.12, -0.11], "below"),
    ([0.1, -0.02, 0.01], "not distinguishable"), ([0.0, 0.0, 0.0], "not distinguishable"), ([0.01, 0.01], "above")])
def test_a_word_for_each_case(differences: list[float], word: str) -> None:
    found = compare_seeds(torch.tensor(differences, dtype=torch.float64))
    assert found.word == word and found.seeds == (len(differences),)
    assert math.isnan(found.low) == (len(differences) < 2) == (not found.judged)


@given(numbers, numbers)
def test_rows_are_compared_by_welch(one: list[float], other: list[float]) -> None:
    variances = [torch.tensor(row, dtype=torch.float64).var().item() / len(row) for row in (one, other)]
    if min(map(len, map(set, (one, other)))) < 2 or sum(variances) < 1e-12:
        return
    free = sum(variances) ** 2 / sum(v**2 / (len(row) - 1) for v, row in zip(variances, (one, other)))
    mean, reach = sum(one) / len(one) - sum(other) / len(other), stats.t.ppf(0.975, free) * math.sqrt(sum(variances))
    found = compare_rows(dict(enumerate(one)), {seed + 50: value for seed, value in enumerate(other)})
    assert (found.mean, found.low, found.high) == pytest.approx((mean, mean - reach, mean + reach), rel=1e-6, abs=1e-9)
    assert found.seeds == (len(one), len(other))
    if min(abs(torch.tensor(row, dtype=torch.float64).std().item()) for row in (one, other)) > 1e-6:
        theirs = stats.ttest_ind(one, other, equal_var=False).confidence_interval()
        assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), rel=1e-6, abs=1e-9), "that of SciPy"


def test_rows_with_few_seeds_or_without_spread() -> None:
    base = {1: 0.9, 2: 0.8}
    assert compare_rows(base, {1: 0.5}).word == "one seed" and compare_rows(base, {1: 0.5}).mean == pytest.approx(0.35)
    assert compare_rows(base, {}).word == "no runs" and str(compare_rows({}, base)) == "no runs"
    assert compare_rows({}, 0.5).word == "no runs" and compare_rows(base, 0.1).seeds == (2,)
    assert compare_rows({1: 0.5, 2: 0.5}, {1: 0.4, 2: 0.4})[:2] == ("above", (2, 2))
    assert welch_interval([0.5, 0.5], [0.4, 0.4], 0.95) == pytest.approx((0.1, 0.1))


def test_equal_takes_an_interval_inside_the_margin() -> None:
    near, wide = {1: 0.900, 2: 0.901, 3: 0.902}, {1: 0.88, 2: 0.90, 3: 0.92}
    assert equal_within(near, {1: 0.901, 2: 0.902, 3: 0.900}) and not equal_within(near, wide)
    assert not equal_within(near, {seed: value + 0.02 for seed, value in near.items()})
    assert equal_within(near, wide, margin=0.2) and not equal_within(near, {1: 0.9})


def test_a_verdict_as_text() -> None:
    assert str(Comparison("no runs", (0,), math.nan, math.nan, math.nan)) == "no runs"
    assert str(Comparison("one seed", (1,), 0.25, math.nan, math.nan)) == "+0.250 one seed"
    assert str(Comparison("below", (3,), -0.1, -0.2, -0.05)) == "-0.100 [-0.200, -0.050] below (3 seeds)"
    assert str(Comparison("below", (3, 4), -0.1, -0.2, -0.05)) == "-0.100 [-0.200, -0.050] below (3 and 4 seeds)"


def test_rows_are_compared_with_their_like() -> None:
    rows = ("CDLM faithful", "CDLM improved", "DANN", f"DANN{BARE}", "no decoder")
    ours = {row: {"mnist-usps": {1: 0.1 * i, 2: 0.1 * i}} for i, row in enumerate(rows)}
    faithful, improved = (comparisons(ours, row, "mnist-usps") for row in rows[:2])
    assert list(faithful) == ["the paper", f"DANN{BARE}", "no decoder"] and list(improved) == ["the paper", "DANN", "no decoder"]
    assert faithful[f"DANN{BARE}"].mean == pytest.approx(-0.3) and improved["DANN"].mean == pytest.approx(-0.1)
    assert improved["the paper"].mean == pytest.approx(0.1 - 0.961) and improved["the paper"].seeds == (2,)


# Snapshots


def test_what_rules_would_have_given() -> None:
    gains = rule_gains({1: made_run(1, 0.25), 2: made_run(2, 0.35)})
    assert set(gains) == {*RULES, "oracle"}
    assert gains["oracle"].tolist() == pytest.approx([0.05, -0.05]) and gains[FIRST].tolist() == pytest.approx([-0.15, -0.25])


def test_courses_are_of_the_steps_that_all_runs_have() -> None:
    long, short = made_run(1, 0.0, (0.1, 0.2, 0.3, 0.4)), made_run(2, 0.0, (0.5, 0.7))
    steps, seen = accuracy_curves({1: long, 2: short})
    assert steps.tolist() == [10, 20] and torch.allclose(seen, torch.tensor([[0.1, 0.2], [0.5, 0.7]], dtype=torch.float64))
    assert accuracy_curves({})[0].numel() == 0
    assert last_gain({1: long}).tolist() == pytest.approx([0.2]) and last_gain({1: long}, 1).tolist() == pytest.approx([0.1])
    assert last_gain({}).numel() == 0


# The picture


def test_dots_bars_and_diamonds_are_where_the_numbers_are() -> None:
    _, ax = plt.subplots()
    paper = {"DANN": 0.9, "mystery": 0.1, "no decoder": None}
    accuracy_dots(ax, {"DANN": {1: 0.2, 2: 0.4}, "mystery": {}, "no decoder": {5: 0.6}}, paper)
    seen = [(line.get_marker(), list(line.get_xdata()), set(line.get_ydata())) for line in ax.lines if len(line.get_xdata())]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["DANN", "mystery", "no decoder"] and ax.get_ylim() == (2.5, -0.5)
    assert ("o", [0.2, 0.4], {0}) in seen and ("o", [0.6], {2}) in seen
    assert [(m, x) for m, x, y in seen if m == "|"] == [("|", pytest.approx([0.3])), ("|", [0.6])]
    assert [(x, y) for m, x, y in seen if m == "D"] == [([0.9], {0}), ([0.1], {1})], "none where the paper has no number"
    plt.close("all")


# Claims


def test_a_claim_is_judged_task_by_task(tmp_path: Path) -> None:
    rows = row_variants("table7")
    store(tmp_path, rows["full"], "mnist-usps", {1: 0.9, 2: 0.92, 3: 0.91})
    store(tmp_path, rows["PM1"], "mnist-usps", {1: 0.8, 2: 0.81, 4: 0.0})
    store(tmp_path, rows["full"], "mnist-mnistm", {1: 0.5})
    store(tmp_path, rows["PM1"], "mnist-mnistm", {1: 0.6})
    found = findings(Claim("better", "Table 7", "table7", "full", "PM1"), tmp_path)
    digits, colored = found["mnist-usps"], found["mnist-mnistm"]
    assert digits.found.seeds == (3, 3) and digits.found.mean == pytest.approx(0.91 - 1.61 / 3), "seed 4 needs no partner"
    assert digits.paper == pytest.approx(0.961 - 0.950) and digits.inside is True
    assert (colored.verdict, colored.inside) == ("one seed", None) and colored.found.mean == pytest.approx(-0.1)
    turned = findings(Claim("worse", "Table 7", "table7", "PM1", "full"), tmp_path)
    assert turned["mnist-usps"].found.mean == -digits.found.mean
    own = findings(Claim("ours", "ours", "table2", "CDLM improved", "no decoder"), tmp_path)
    assert own["mnist-usps"].paper is None, "the paper has no control"
    with pytest.raises(KeyError):
        findings(Claim("better", "Table 7", "table7", "full", "PM3"), tmp_path)


@given(numbers)
def test_the_prediction_interval_is_that_of_the_formula(values: list[float]) -> None:
    low, high = prediction_interval(torch.tensor(values, dtype=torch.float64))
    n, deviation = len(values), torch.tensor(values, dtype=torch.float64).std().item()
    reach = stats.t.ppf(0.975, n - 1) * deviation * math.sqrt(1 + 1 / n)
    assert (low, high) == pytest.approx((sum(values) / n - reach, sum(values) / n + reach), abs=1e-9)


def test_the_prediction_interval_holds_one_more_value_as_often_as_it_says() -> None:
    drawn = torch.randn(4000, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for level in (0.8, 0.95):
        inside = [low <= row[3] <= high for row in drawn for low, high in [prediction_interval(row[:3], level)]]
        assert sum(inside) / len(inside) == pytest.approx(level, abs=3.5 * math.sqrt(level * (1 - level) / 4000))


@pytest.mark.parametrize("other, theirs, word", [
    ({1: 0.80, 2: 0.79, 3: 0.81}, 0.9, "holds"), ({1: 0.95, 2: 0.96, 3: 0.95}, 0.9, "opposite"),
    ({1: 0.90, 2: 0.92, 3: 0.915}, 0.02, "not distinguishable"), ({1: 0.90, 2: 0.92, 3: 0.915}, 0.3, EXCLUDED),
    ({1: 0.90, 2: 0.92, 3: 0.915}, None, "not distinguishable"), ({1: 0.9}, 0.3, "one seed")])
def test_four_verdicts(other: dict[int, float], theirs: float | None, word: str) -> None:
    assert pronounce({1: 0.90, 2: 0.91, 3: 0.92}, other, theirs) == word


def test_one_more_run_of_each_row_differs_by_what_the_interval_says() -> None:
    drawn = torch.randn(3000, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    inside = []
    for row in drawn.tolist():
        low, high = single_interval(dict(enumerate(row[:4])), dict(enumerate(row[4:7])))
        inside.append(low <= row[7] - row[8] <= high)
    assert sum(inside) / len(inside) == pytest.approx(0.95, abs=0.02)
    assert single_interval({1: 0.5, 2: 0.5}, {1: 0.4, 2: 0.4}) == pytest.approx((0.1, 0.1))


@given(st.lists(st.floats(0.01, 0.99), min_size=2, max_size=8))
def test_an_interval_for_accuracies_stays_between_zero_and_one(values: list[float]) -> None:
    low, high = accuracy_interval(torch.tensor(values, dtype=torch.float64))
    assert 0 <= low <= high <= 1
    turned = accuracy_interval(1 - torch.tensor(values, dtype=torch.float64))
    assert turned == pytest.approx((1 - high, 1 - low), abs=1e-6), "errors are the same thing, seen from the other side"
