"""Records of runs that differ in their seed only, and how chapters read them.

Generated from book/src/02_records.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from cdlm.files import read_json

__all__ = ["OLD_NAMES", "metric_values", "read_record", "read_records", "record_path"]


# 02_records: Reading a record

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
    names will do."""
    return read_json(record_path(name, results))


def read_records(folder: Path, pattern: str) -> dict[Path, dict]:
    """The records in a folder whose file names match ``pattern``, by file, in the order of
    their names.

    It announces what it looks for, so that a record that comes later is known to matter.
    """
    sys.audit("cdlm.read_records", str(folder), pattern)
    return {path: read_json(path) for path in sorted(folder.glob(pattern))}


def metric_values(record: dict, metric: str = "target_accuracy") -> torch.Tensor:
    """One metric of all runs of a record, (runs,)."""
    return torch.tensor([run[metric] for run in record["runs"]], dtype=torch.float64)
