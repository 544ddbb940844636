"""Records of runs that differ in their seed only, and how chapters read them.

Generated from book/src/02_records.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from cdlm.files import RunError, read_json
from cdlm.shapes import AnyRecord

__all__ = [
    "OLD_NAMES",
    "accuracies_in",
    "check_record",
    "metric_values",
    "read_record",
    "read_records",
    "record_path",
]


# 02_records: Reading a record

def accuracies_in(content: object) -> Iterator[tuple[str, object]]:
    """All accuracies of a record with their names, however deep they lie in it."""
    parts = [content]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            yield from ((name, value) for name, value in part.items()
                        if name.endswith("accuracy") and not isinstance(value, dict))
        parts += (part.values() if isinstance(part, dict)
                  else part if isinstance(part, list) else ())


def check_record(path: Path, record: dict) -> dict:
    """A record as it was read from ``path``. Raises RunError for an accuracy that is no number
    from 0 to 1, and for runs of which two have one seed."""
    for name, value in accuracies_in(record):
        if type(value) not in (int, float) or not 0 <= value <= 1:
            raise RunError(f"{path} is damaged: {name} is {str(value)[:40]}, and must be a "
                           "number from 0 to 1; restore it, or make it again")
    seeds = [str(run["seed"]) for run in record.get("runs", ()) if "seed" in run]
    if len(set(seeds)) < len(seeds):
        raise RunError(f"{path} is damaged: two of its runs have the same seed; "
                       "restore it, or make it again")
    return record


OLD_NAMES = {"source": "source-only", "source-bare": "source-only-bare",
             "target": "target-only", "dann": "adversarial", "dann-bare": "adversarial-bare"}


def record_path(name: str, results: Path) -> Path:
    """Where a record lies: under ``name``, or under the other name that its variant has or
    had."""
    path, words = results / f"{name}.json", name.split("_")
    renamed = OLD_NAMES | {new: old for old, new in OLD_NAMES.items()}
    if path.exists() or len(words) != 3 or words[1] not in renamed:
        return path
    other = results / f"{words[0]}_{renamed[words[1]]}_{words[2]}.json"
    return other if other.exists() else path


def read_record(name: str, results: Path = Path("results")) -> dict:
    """A record by name from ``results``, which for a chapter is the folder beside it; old
    names will do. Raises RunError as check_record does."""
    path = record_path(name, results)
    return check_record(path, read_json(path, AnyRecord))


def read_records(folder: Path, pattern: str) -> dict[Path, dict]:
    """The records in a folder whose file names match ``pattern``, by file, in the order of
    their names.

    It announces what it looks for, so that a record that comes later is known to matter.
    Raises RunError as check_record does.
    """
    sys.audit("cdlm.read_records", str(folder), pattern)
    return {path: check_record(path, read_json(path, AnyRecord))
            for path in sorted(folder.glob(pattern))}


def metric_values(record: dict, metric: str = "target_accuracy") -> torch.Tensor:
    """One metric of all runs of a record, (runs,). Raises RunError where one has none."""
    values = [run.get(metric) for run in record.get("runs", ())]
    if not values or any(type(value) not in (int, float) for value in values):
        raise RunError(f"no run, or not every run, of this record has a number {metric!r}")
    return torch.tensor(values, dtype=torch.float64)
