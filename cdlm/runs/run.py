"""Running, storing, reading back and measuring again.

Generated from book/src/74_runs.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cdlm.data.domain import Domain, OpenedDomain, checksum
from cdlm.domains.catalog import CATALOG
from cdlm.evaluation.accuracy import accuracy, predict
from cdlm.files import (
    RunError,
    fault_of,
    json_digest,
    need_place,
    plain_size,
    read_json,
    replacing,
    write_json,
)
from cdlm.methods.base import Method
from cdlm.methods.registry import METHODS, build_augment, build_config
from cdlm.model.normalization import facing
from cdlm.provenance import provenance
from cdlm.runs.folder import (
    CHECKPOINT,
    METRICS,
    SNAPSHOT_FILE,
    WEIGHTS,
    is_whole,
    load_spec,
    working_folder,
)
from cdlm.runs.record import check_record
from cdlm.runs.spec import RunSpec, build_method, found_size, load_pair, located
from cdlm.settings import flat
from cdlm.shapes import Metrics, SnapshotFile
from cdlm.training.callbacks import Callback, CsvLog, OnLog
from cdlm.training.checkpoints import (
    compare_runs,
    content_digest,
    read_checkpoint,
    write_tensors,
)
from cdlm.training.loop import Loop, maker_of, train, with_maker
from cdlm.training.team import Team, team_of
from cdlm.training.watch import TrainingError

__all__ = [
    "Measuring",
    "ORIGINS",
    "check_work",
    "data_checksums",
    "evaluate",
    "is_checked",
    "joined_record",
    "load_run",
    "measure",
    "moved",
    "read_run",
    "run",
    "same_data",
    "store_record",
    "stored_weights",
    "whole_run",
]


# 74_runs: Running

def measure(method: Method, source: Domain, target: Domain) -> dict[str, float]:
    """Accuracy on the test images of both domains, in test mode; of a domain without classes
    there is none."""
    method.eval()
    found = {}
    for side, domain in (("source", source), ("target", target)):
        if domain.classes:
            with facing(method, side):
                found[f"{side}_accuracy"] = accuracy(
                    predict(method.logits, domain.test.images), domain.test.labels)
    return found


@dataclass(frozen=True)
class Measuring:
    """What a run measures: ``final`` after its training, and ``glance`` at ``snapshots``
    evenly spaced steps of it."""

    snapshots: int = 0
    glance: Callable[[Method, Domain, Domain], dict] = measure
    final: Callable[[Method, Domain, Domain], dict] = measure


def data_checksums(source: Domain, target: Domain) -> dict[str, str]:
    """Checksums of the four splits that a run reads, by role, for two folders may have one
    name."""
    return {f"{side}/{split}": checksum(getattr(domain, split))
            for side, domain in (("source", source), ("target", target))
            for split in ("train", "test")}


def same_data(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether two runs have seen the same images, by their checksums.

    Older runs have them by the names of the domains, and where both had one name, those of the
    target alone: then the source's are not checked.
    """
    if one.keys() == other.keys():
        return one == other
    fewer, more = sorted((set(one.values()), set(other.values())), key=len)
    return len(fewer) >= 2 and fewer <= more


class Snapshots:
    """What a method was found to be at evenly spaced steps of its training; ``take`` is called
    with each row of the log."""

    def __init__(self, path: Path, method: Method, domains: Sequence[Domain], steps: int,
                 measuring: Measuring, clock: Callable[[], float]) -> None:
        self.path, self.method, self.domains, self.measuring, self.clock = (
            path, method, domains, measuring, clock)
        self.due = [round(steps * (i + 1) / measuring.snapshots)
                    for i in range(measuring.snapshots)]
        self.found: list[dict] = (read_json(path, SnapshotFile)["snapshots"]
                                   if path.exists() else [])

    def take(self, step: int) -> None:
        """Measure, if a snapshot is due at ``step`` or was due since the last one, and keep
        it."""
        last = self.found[-1]["step"] if self.found else 0
        if step <= last or not any(last < due <= step for due in self.due):
            return
        seconds = self.clock()
        values = self.measuring.glance(self.method, *self.domains)
        self.method.train()
        self.found.append({"step": step, "seconds": round(seconds, 1), **values})
        write_json(self.path, {"snapshots": self.found})


def check_work(spec: RunSpec, team: Team) -> None:
    """Raise RunError for settings and a precision there are not, and for a batch that cannot
    be shared evenly."""
    config = build_config(spec.method, spec.settings)
    build_augment(spec.augment), build_augment(spec.strong)
    if METHODS[spec.method][0].needs_second_view(config) and not spec.strong:
        raise RunError("self-training needs target images changed strongly: "
                       "give such changes, or set self_training=0.0")
    if spec.precision not in ("float32", "bfloat16"):
        raise RunError(f"precision is {spec.precision!r}; it must be float32 or bfloat16")
    if spec.batch_size % team.size:
        raise RunError(
            f"a batch of {spec.batch_size} cannot be shared evenly by {team.size} processes")


def open_run(spec: RunSpec, team: Team) -> tuple[RunSpec, OpenedDomain, OpenedDomain]:
    """A run's two domains, after a check of what it asks; its spec says in what size they were
    found."""
    check_work(spec, team)  # before data are read, which may take a while
    spec = replace(spec, source=located(spec.source), target=located(spec.target))
    source, target = load_pair(spec)
    if "best" in spec.size:
        spec = replace(spec, size=found_size(source, target))
    return spec, source, target


def begun(loop: Loop) -> tuple[Callable[[], float], list[dict]]:
    """A clock that shows the seconds spent on a training, those before its checkpoint among
    them, and who made that checkpoint."""
    seconds, makers = 0.0, []
    if loop.checkpoint is not None and loop.checkpoint.exists():
        stored = read_checkpoint(loop.checkpoint)
        seconds, makers = stored.seconds, stored.makers
    start = time.monotonic() - seconds
    return lambda: time.monotonic() - start, makers


def origin_of(makers: list[dict], loop: Loop, team: Team) -> dict[str, object]:
    """The provenance of a run: who finishes it, and under "before" who else had a hand in
    it."""
    *before, last = with_maker(makers, maker_of(loop, team), loop.steps)
    del last["until"]
    return last | ({"before": before} if before else {})


def train_in(folder: Path, method: Method, domains: tuple[Domain, Domain], loop: Loop,
             team: Team, measuring: Measuring,
             callbacks: Iterable[Callback]) -> dict[str, object]:
    """Train in a run's folder, where the log grows; what there is to tell of it: seconds, log,
    provenance, and snapshots if any."""
    (clock, makers), first = begun(loop), team.rank == 0
    there = [replace(d, train=d.train.to(team.device), test=d.test.to(team.device))
             for d in domains]
    snapshots = Snapshots(folder / SNAPSHOT_FILE, method, there, loop.steps, measuring, clock)
    seen = OnLog(lambda row: snapshots.take(row["step"]))
    told = (CsvLog(folder / "log.csv"), seen, *callbacks) if first else ()
    log = train(method, *domains, loop, told, team)
    told = {"seconds": round(clock(), 1), "log": log,
            "provenance": origin_of(makers, loop, team)}
    return told | ({"snapshots": snapshots.found} if snapshots.found else {})


def store_run(folder: Path, spec: RunSpec, method: Method, metrics: dict) -> None:
    """Write weights, config and metrics into a run's folder; the method is on the CPU, its
    weights contiguous. Raises TrainingError for weights that are no numbers."""
    weights = method.state_dict()
    if lost := not_finite(weights):
        raise TrainingError(f"{lost} is not finite after the last step: "
                            "lower the learning rates")
    with replacing(folder / WEIGHTS) as temporary:
        write_tensors(temporary, weights)
    write_json(folder / "config.json", asdict(spec))
    checksums = {"weights": content_digest(weights), "config": json_digest(asdict(spec)),
                 "metrics": json_digest(metrics)}
    write_json(folder / METRICS, metrics | {"checksums": checksums})


def not_finite(weights: Mapping[str, Tensor]) -> str:
    """The name of a tensor that holds something else than finite numbers, or ""."""
    return next((name for name, x in weights.items() if not bool(x.isfinite().all())), "")


def run(spec: RunSpec, out: Path, device: str = "cpu",
        callbacks: Iterable[Callback] = (), log_every: int = 50,
        checkpoint_every: int = 500, channels_last: bool = False, compile: bool = False,
        measuring: Measuring | None = None) -> dict:
    """Train as ``spec`` says, measure, store everything in the new folder ``out``, and return
    the metrics.

    A run that was killed goes on from its last checkpoint, made every ``checkpoint_every``
    steps (0: never). Of several processes that torchrun has started, the first one tells the
    ``callbacks``, measures and stores; the others return no metrics. ``measuring`` says what
    is measured beside the accuracies; ``seconds`` are those of training and snapshots.
    """
    kept, measuring = checkpoint_every > 0, measuring or Measuring()
    with team_of(device) as team:
        spec, source, target = open_run(spec, team)
        method = build_method(spec, source)
        with working_folder(Path(os.path.abspath(out)), spec, kept, team) as folder:
            if team.all_agree(is_whole(folder)):  # all that it wants is its name
                return whole_run(folder) if team.rank == 0 else {}
            loop = Loop(spec.steps, spec.seed, spec.batch_size, log_every, spec.precision,
                        build_augment(spec.augment), build_augment(spec.strong), team.device,
                        channels_last, compile, folder / CHECKPOINT if kept else None,
                        checkpoint_every)
            told = train_in(folder, method, (source, target), loop, team, measuring, callbacks)
            if team.rank > 0:
                return {}
            # as safetensors wants weights
            method.cpu().to(memory_format=torch.contiguous_format)
            metrics = {**measuring.final(method, source, target),
                       "selection": "last iteration", "data": data_checksums(source, target),
                       **told}
            store_run(folder, spec, method, metrics)
    return metrics


# 74_runs: Reading a run back

def read_run(folder: Path) -> tuple[RunSpec, dict]:
    """What a finished run was asked, and its metrics, without their checksums.

    Raises RunError for what is damaged, or is not what the run has stored. Runs of before
    there were checksums are read as they are: see ``is_checked``.
    """
    spec, path = load_spec(folder), folder / METRICS
    metrics = read_json(path)
    sums = metrics.pop("checksums", None)
    found = {"config.json": json_digest(read_json(folder / "config.json")),
             METRICS: json_digest(metrics)}
    for name, digest in found.items() if sums is not None else ():
        if not isinstance(sums, dict) or sums.get(name.partition(".")[0]) != digest:
            raise RunError(f"{folder / name} is not what the run has stored, by its checksum; "
                           "restore it, or train again")
    if wrong := fault_of(metrics, Metrics):
        raise RunError(f"{path} is damaged ({wrong}); restore it, or train again")
    return spec, check_record(path, metrics)


def is_checked(folder: Path) -> bool:
    """Whether a run has checksums of what it has stored; older runs have none."""
    return "checksums" in read_json(folder / METRICS)


def stored_weights(folder: Path) -> dict[str, Tensor]:
    """The weights of a run. Raises RunError for those that are damaged, of another run, or no
    numbers."""
    path, sums = folder / WEIGHTS, read_json(folder / METRICS).get("checksums")
    try:
        plain_size(path)
        weights = load_file(path)
    except FileNotFoundError:
        raise RunError(f"{path} does not exist; the run is incomplete, train again") from None
    except (SafetensorError, OSError, ValueError):
        raise RunError(f"{path} is damaged; restore it, or train again") from None
    if sums is not None and sums.get("weights") != content_digest(weights):
        raise RunError(f"{path} is not what the run has stored, by its checksum: damaged, or "
                       "of another run; restore it, or train again")
    if lost := not_finite(weights):
        raise RunError(f"{path} is damaged: {lost} is not finite; restore it, or train again")
    return weights


def whole_run(folder: Path) -> dict:
    """The metrics of a run that is whole but for its name, after a check of all of it."""
    _, metrics = read_run(folder)
    stored_weights(folder)
    return metrics


def moved(spec: RunSpec, folder: Path, **now: str | None) -> RunSpec:
    """The spec of a stored run with those domains that lie elsewhere ``now``, by role.

    Raises RunError for a folder of images that is not there.
    """
    spec = replace(spec, **{side: place for side, place in now.items() if place})
    for side in ("source", "target"):
        name = getattr(spec, side)
        if name not in CATALOG and not os.path.exists(os.path.expanduser(name)):
            raise RunError(f"the {side} of {folder} was {name}, which is not to be found from "
                           f"here; put it there, or evaluate with --{side} and its place")
    return spec


def load_run(folder: Path, source: str | None = None, target: str | None = None
             ) -> tuple[RunSpec, Method, Domain, Domain]:
    """A stored run: its spec, its trained method, and its two domains, which may have moved
    to ``source`` and ``target``.

    Raises RunError for whatever is not in order.
    """
    spec = moved(read_run(folder)[0], folder, source=source, target=target)
    weights = stored_weights(folder)
    pair = load_pair(spec)
    method = build_method(spec, pair[0])
    try:
        method.load_state_dict(weights)
    except RuntimeError:
        raise RunError(f"{folder / WEIGHTS} does not fit the networks of config.json beside "
                       "it; was one replaced?") from None
    return spec, method.eval(), *pair


ORIGINS = ("python", "packages", "code", "system", "threads", "hardware")


def evaluate(folder: Path, source: str | None = None, target: str | None = None
             ) -> dict[str, float]:
    """Measure a stored run again; its domains may have moved to ``source`` and ``target``.

    Raises RunError if the data have changed since, and for another number than the stored one.
    """
    _, method, *pair = load_run(folder, source, target)
    _, stored = read_run(folder)
    if not same_data(stored["data"], data_checksums(*pair)):
        raise RunError(f"the data are not those that {folder} was measured on; "
                       "its number cannot be compared")
    found = measure(method, *pair)
    before = {name: stored.get(name) for name in found}
    if found != before:
        there, here = ({name: value for name, value in maker.items() if name in ORIGINS}
                       for maker in (stored["provenance"], provenance("cpu")))
        why = compare_runs(there, here) or "on the same versions and the same machine"
        raise RunError(f"{folder} measures {compare_runs(before, found)}: {why}")
    return found


# 74_runs: From runs to a record

def joined_record(folders: Iterable[Path]) -> dict:
    """A record of runs that differ in their seed only, in the order of their seeds.

    Raises RunError if they do not.
    """
    runs = sorted(map(read_run, folders), key=lambda found: found[0].seed)
    asked = [asdict(spec) | {"seed": 0} | {side: Path(getattr(spec, side)).name  # it may move
                                           for side in ("source", "target")}
             for spec, _ in runs]
    if not runs or any(one != asked[0] for one in asked):
        raise RunError("a record wants runs that differ in their seed only")
    if len({spec.seed for spec, _ in runs}) < len(runs):
        raise RunError("two of these runs have the same seed")
    first, metrics = runs[0]
    if not all(same_data(found["data"], metrics["data"]) for _, found in runs):
        raise RunError("these runs were measured on different data")
    return {"spec": {name: value for name, value in asdict(first).items() if name != "seed"},
            "config": flat(build_config(first.method, first.settings)),
            "runs": [{"seed": spec.seed, **found} for spec, found in runs]}


def store_record(path: Path, record: dict) -> None:
    """Write a record of runs. Raises RunError where it cannot be written, and where there is
    something else than an older record of the same runs."""
    need_place(path, lambda old: old.keys() == record.keys() and old["spec"] == record["spec"])
    write_json(path, record)
