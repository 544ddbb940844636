"""Stored runs that a measurement reads.

Generated from book/src/84_inside.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from cdlm.data.domain import Domain
from cdlm.files import RunError
from cdlm.methods.base import Method
from cdlm.runs.run import data_checksums, joined_record, load_run, read_run, same_data
from cdlm.runs.spec import RunSpec

__all__ = ["load_labeled", "load_trained", "measure_runs"]


# 84_inside: Translations, with their failures

def load_labeled(folder: Path) -> tuple[RunSpec, Method, Domain, Domain]:
    """A stored run as ``load_run`` gives it. Raises RunError for a target without labels, and
    where the data have changed."""
    spec, model, source, target = load_run(folder)
    if not target.classes:
        raise RunError(f"{folder} is a run whose target has no labels, and this is counted "
                       "by labels; give a target with a folder for each class")
    if not same_data(read_run(folder)[1]["data"], data_checksums(source, target)):
        raise RunError(f"the data are not those that {folder} was trained on")
    return spec, model, source, target


def load_trained(folder: Path) -> tuple[RunSpec, Method, Domain, Domain]:
    """The same of a method that draws. Raises RunError for other methods, too."""
    spec, model, source, target = load_labeled(folder)
    if not model.draws:
        raise RunError(f"{folder} is a run of {spec.method}, which draws no images; "
                       "give one of cdlm or improved")
    return spec, model, source, target


def measure_runs(folders: Iterable[Path], what: str,
                 measure_one: Callable[[Path], dict]) -> dict:
    """A record of something measured on stored runs that differ in their seed only.

    Raises RunError for others.
    """
    folders = list(folders)
    joined = joined_record(folders)
    found = sorted((measure_one(folder) for folder in folders), key=lambda one: one["seed"])
    trained = {run["seed"]: {name: run[name] for name in ("target_accuracy", "provenance")
                             if name in run}
               for run in joined["runs"]}
    return {"measured": what, "spec": joined["spec"],
            "runs": [one | {"trained": trained[one["seed"]]} for one in found]}
