"""Methods ranked over tasks."""

from __future__ import annotations

import pytest

from cdlm.experiments.plan import COLORED, cells, color_settings, job
from cdlm.experiments.ranks import critical_difference, rank_rows
from cdlm.methods.registry import METHODS

TASKS = ("a", "b", "c")


def table(*rows: tuple[float, ...]) -> dict[str, dict[str, float]]:
    return {f"row{i}": dict(zip(TASKS, row)) for i, row in enumerate(rows)}


def test_the_best_row_has_rank_one_and_ties_share_theirs() -> None:
    found = rank_rows(table((0.9, 0.8, 0.7), (0.8, 0.8, 0.6), (0.1, 0.2, 0.3)), TASKS)
    assert found.mean == pytest.approx({"row0": (1 + 1.5 + 1) / 3, "row1": (2 + 1.5 + 2) / 3, "row2": 3.0})
    assert sum(found.mean.values()) == pytest.approx(6)


def test_critical_differences_are_those_that_are_tabulated() -> None:
    """Demšar (2006), Table 5a: q is 2.343 for three and 3.164 for ten classifiers."""
    assert critical_difference(3, 6) == pytest.approx(2.343 * (12 / 36) ** 0.5, abs=2e-3)
    assert critical_difference(10, 14) == pytest.approx(3.164 * (110 / 84) ** 0.5, abs=3e-3)


def test_an_order_that_all_tasks_share_is_no_chance_and_a_reversed_one_is() -> None:
    rows = [tuple(0.1 * i + 0.01 * j for j in range(3)) for i in range(4)]
    assert rank_rows(table(*rows), TASKS).p < 0.05
    mixed = table((1, 2, 3), (2, 3, 1), (3, 1, 2))
    assert rank_rows(mixed, TASKS).p == pytest.approx(1.0)


def test_too_little_to_rank_is_refused() -> None:
    with pytest.raises(ValueError, match="2 rows on 3 tasks cannot be ranked"):
        rank_rows(table((1, 2, 3), (2, 3, 1)), TASKS)
    with pytest.raises(ValueError, match="3 rows on 1 tasks cannot be ranked"):
        rank_rows(table((1, 2, 3), (2, 3, 1), (3, 1, 2)), TASKS[:1])


def test_neighbors_are_trained_like_the_rows_beside_them() -> None:
    for cell in cells("neighbors"):
        spec, bound = job(cell.variant, cell.task, 1).spec, cell.variant.on_target
        assert (spec.steps, spec.settings["width"], spec.batch_size, spec.precision) == (2000, 16, 64, "bfloat16")
        color = any(domain in COLORED for domain in cell.task.split("-"))
        assert ("invert" in spec.augment) == color and bound == (spec.source == spec.target)
        if cell.recipe == "neighbor":
            assert spec.settings.keys() <= {"width", "standardize"}, "everything else is the method's own"


def test_in_color_a_method_keeps_its_own_self_training() -> None:
    assert color_settings("improved") == {"standardize": True, "self_training": 0.0} == color_settings("plain")
    assert color_settings("adamatch") == {"standardize": True}
    assert color_settings("mcd") == {}, "which cannot standardize"
    assert all(set(color_settings(method)) <= {"standardize", "self_training"} for method in METHODS)
