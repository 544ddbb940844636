"""Records of many runs as the cells of the paper's tables.

Generated from book/src/80_plan_and_queue.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from cdlm.evaluation.selection import RULES
from cdlm.experiments.paper import PAPER
from cdlm.experiments.plan import TABLE_TASKS, Variant, cells
from cdlm.files import RunError, fault_of
from cdlm.runs.record import OLD_NAMES, read_records
from cdlm.settings import quoted
from cdlm.shapes import RunRecord
from cdlm.training.checkpoints import compare_runs

__all__ = ["cell_values", "paper_value", "read_runs", "result_rows"]


# 80_plan_and_queue: Ours beside the paper's

def read_runs(variant: Variant, task: str, results: Path) -> list[dict]:
    """All records of a variant on a task, in the order of their seeds, none for want of any.

    Raises RunError for one that is not whole, that is of another method, or that differs from
    the others in more than its seed.
    """
    found = []
    names = [*(old for old, new in OLD_NAMES.items() if new == variant.name), variant.name]
    records = {path.stem.rpartition("_s")[2]: (path, record) for name in names
               for path, record in read_records(results, f"{task}_{name}_s*.json").items()}
    for path, record in records.values():
        if wrong := fault_of(record, RunRecord):
            raise RunError(f"{path} is not the record of a run ({wrong}); "
                           "remove it, and make it again")
        if record["spec"]["method"] != variant.method:
            raise RunError(f"{path} is of {record['spec']['method']}, not of {variant.method}")
        if str(record["spec"]["seed"]) != path.stem.rpartition("_s")[2]:
            raise RunError(f"{path} is of seed {record['spec']['seed']}, which its name "
                           "does not say; remove it, or give it its name")
        first = (found or [record])[0]["spec"]
        if difference := compare_runs(first | {"seed": 0}, record["spec"] | {"seed": 0}):
            raise RunError(f"{path} and the record of seed {first['seed']} cannot be put "
                           f"together: {difference}")
        found.append(record)
    return sorted(found, key=lambda record: record["spec"]["seed"])


def cell_values(runs: Sequence[dict], selection: str = "last",
                path: str = "x_tilde_t") -> torch.Tensor:
    """Target accuracies of runs (runs,) float64, at the snapshot that a rule takes, or of CDLM
    at the end by another ``path``."""
    try:
        values = [run["selected"][selection]["target_accuracy"] if path == "x_tilde_t"
                  else run["paths"][path] for run in runs]
    except KeyError as error:
        raise RunError(f"a record has no accuracy of {error}; make it again") from None
    return torch.tensor(values, dtype=torch.float64)


def paper_value(table: str, row: str, task: str) -> float | None:
    """What the paper reports in a row of a table for a task; None where it reports nothing."""
    found = PAPER.get(table, {})
    name = next((name for name in found
                 if row == name or row.startswith((f"{name} ", f"{name}+"))), None)
    return found[name].get(task) if name is not None else None


def result_rows(results: Path, selection: str = "last") -> list[dict]:
    """Each cell of each table, the paper's number beside ours: a list of flat objects, None
    where there is no number yet.

    "std" is that of a sample, and wants two seeds. Raises RunError for a selection there is
    not.
    """
    if selection not in ("last", *RULES, "oracle"):
        raise RunError(
            f"selection is one of last, {', '.join(RULES)}, oracle; not {quoted(selection)}")
    rows = []
    for cell in (cell for table in TABLE_TASKS for cell in cells(table)):
        values = cell_values(runs := read_runs(cell.variant, cell.task, results), selection)
        rows.append({
            "table": cell.table, "task": cell.task, "method": cell.row, "recipe": cell.recipe,
            "paper": paper_value(cell.table, cell.row, cell.task), "mean": values.mean().item()
            if runs else None, "std": values.std().item() if len(runs) > 1 else None,
            "seeds": [run["spec"]["seed"] for run in runs], "selection": selection})
    return rows
