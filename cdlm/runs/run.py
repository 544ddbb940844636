"""Running, storing, reading back and measuring again.

Generated from book/src/74_runs.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from cdlm.data.domain import Domain, OpenedDomain, checksum
from cdlm.evaluation.accuracy import accuracy, predict
from cdlm.files import RunError, read_json, replacing, write_json
from cdlm.methods.base import Method
from cdlm.methods.registry import METHODS, build_augment, build_config
from cdlm.model.normalization import facing
from cdlm.provenance import provenance
from cdlm.runs.folder import CHECKPOINT, SNAPSHOT_FILE, load_spec, working_folder
from cdlm.runs.spec import RunSpec, build_method, found_size, load_pair
from cdlm.settings import flat
from cdlm.training.checkpoints import read_checkpoint
from cdlm.training.loop import Loop, train
from cdlm.training.team import Team, team_of

__all__ = [
    "Measuring",
    "check_work",
    "data_checksums",
    "evaluate",
    "joined_record",
    "load_run",
    "log_table",
    "measure",
    "run",
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
    """Checksums of the four splits that a run reads."""
    return {f"{domain.name}/{split}": checksum(getattr(domain, split))
            for domain in (source, target) for split in ("train", "test")}


@contextmanager
def log_table(path: Path | None) -> Iterator[Callable[[dict], None]]:
    """A function that adds a row to a new CSV file, readable at once; with no path, one that
    does nothing."""
    if path is None:
        yield lambda row: None
        return
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        def add(row: dict) -> None:
            if not file.tell():
                writer.writerow(row)
            writer.writerow(row.values())
            file.flush()
        yield add


class Snapshots:
    """What a method was found to be at evenly spaced steps of its training; ``take`` is called
    with each row of the log."""

    def __init__(self, path: Path, method: Method, domains: Sequence[Domain], steps: int,
                 measuring: Measuring, clock: Callable[[], float]) -> None:
        self.path, self.method, self.domains, self.measuring, self.clock = (
            path, method, domains, measuring, clock)
        self.due = [round(steps * (i + 1) / measuring.snapshots)
                    for i in range(measuring.snapshots)]
        self.found: list[dict] = read_json(path)["snapshots"] if path.exists() else []

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
    source, target = load_pair(spec)
    if "best" in spec.size:
        spec = replace(spec, size=found_size(source, target))
    return spec, source, target


def clock_of(loop: Loop) -> Callable[[], float]:
    """A clock that shows the seconds spent on a training, those before its checkpoint among
    them."""
    resumed = loop.checkpoint is not None and loop.checkpoint.exists()
    start = time.monotonic() - (read_checkpoint(loop.checkpoint).seconds if resumed else 0.0)
    return lambda: time.monotonic() - start


def train_in(folder: Path, method: Method, domains: tuple[Domain, Domain], loop: Loop,
             team: Team, measuring: Measuring,
             report: Callable[[dict], None] | None) -> dict[str, object]:
    """Train in a run's folder, where the log grows; what there is to tell of it: seconds, log,
    and snapshots if any."""
    clock, first = clock_of(loop), team.rank == 0
    there = [replace(d, train=d.train.to(team.device), test=d.test.to(team.device))
             for d in domains]
    snapshots = Snapshots(folder / SNAPSHOT_FILE, method, there, loop.steps, measuring, clock)
    with log_table(folder / "log.csv" if first else None) as add:
        def tell(row: dict) -> None:
            add(row)
            snapshots.take(row["step"])
            if report is not None:
                report(row)
        log = train(method, *domains, loop, tell if first else None, team)
    told = {"seconds": round(clock(), 1), "log": log}
    return told | ({"snapshots": snapshots.found} if snapshots.found else {})


def store_run(folder: Path, spec: RunSpec, method: Method, metrics: dict) -> None:
    """Write weights, config and metrics into a run's folder; the method is on the CPU, its
    weights contiguous."""
    with replacing(folder / "weights.safetensors") as temporary:
        save_file(method.state_dict(), temporary)
    write_json(folder / "config.json", asdict(spec))
    write_json(folder / "metrics.json", metrics)


def run(spec: RunSpec, out: Path, device: str = "cpu",
        report: Callable[[dict], None] | None = None, log_every: int = 50,
        checkpoint_every: int = 500, channels_last: bool = False, compile: bool = False,
        measuring: Measuring | None = None) -> dict:
    """Train as ``spec`` says, measure, store everything in the new folder ``out``, and return
    the metrics.

    A run that was killed goes on from its last checkpoint, made every ``checkpoint_every``
    steps (0: never). Of several processes that torchrun has started, the first one measures
    and stores; the others return no metrics. ``measuring`` says what is measured beside the
    accuracies; ``seconds`` are those of training and snapshots.
    """
    kept, measuring = checkpoint_every > 0, measuring or Measuring()
    with team_of(device) as team:
        spec, source, target = open_run(spec, team)
        method = build_method(spec, source)
        with working_folder(out, spec, kept, team) as folder:
            loop = Loop(spec.steps, spec.seed, spec.batch_size, log_every, spec.precision,
                        build_augment(spec.augment), build_augment(spec.strong), team.device,
                        channels_last, compile, folder / CHECKPOINT if kept else None,
                        checkpoint_every)
            told = train_in(folder, method, (source, target), loop, team, measuring, report)
            if team.rank > 0:
                return {}
            # as safetensors wants weights
            method.cpu().to(memory_format=torch.contiguous_format)
            engine = {"device": device, "processes": team.size, "channels_last": channels_last,
                      "compile": compile}
            metrics = {**measuring.final(method, source, target),
                       "selection": "last iteration", "data": data_checksums(source, target),
                       "provenance": provenance(device) | {"engine": engine}, **told}
            store_run(folder, spec, method, metrics)
    return metrics


# 74_runs: Reading a run back

def load_run(folder: Path) -> tuple[RunSpec, Method, Domain, Domain]:
    """A stored run: its spec, its trained method, and its two domains.

    Raises RunError for whatever is not in order.
    """
    spec = load_spec(folder)
    source, target = load_pair(spec)
    method = build_method(spec, source)
    path = folder / "weights.safetensors"
    try:
        method.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise RunError(f"{path} does not exist; the run is incomplete, train again") from None
    except (SafetensorError, OSError):
        raise RunError(f"{path} is damaged; restore it, or train again") from None
    except RuntimeError:
        raise RunError(f"{path} does not fit the networks of config.json beside it; "
                       "was one replaced?") from None
    return spec, method.eval(), source, target


def evaluate(folder: Path) -> dict[str, float]:
    """Measure a stored run again. Raises RunError if the data have changed since."""
    _, method, source, target = load_run(folder)
    stored = read_json(folder / "metrics.json").get("data")
    if stored != data_checksums(source, target):
        raise RunError(f"the data are not those that {folder} was measured on; "
                       "its number cannot be compared")
    return measure(method, source, target)


# 74_runs: From runs to a record

def joined_record(folders: Iterable[Path]) -> dict:
    """A record of runs that differ in their seed only, in the order of their seeds.

    Raises RunError if they do not.
    """
    runs = sorted(({"spec": asdict(load_spec(f)), "metrics": read_json(f / "metrics.json")}
                   for f in folders), key=lambda r: r["spec"]["seed"])
    without_seed = [{k: v for k, v in r["spec"].items() if k != "seed"} for r in runs]
    if not runs or any(spec != without_seed[0] for spec in without_seed):
        raise RunError("a record wants runs that differ in their seed only")
    if len({r["spec"]["seed"] for r in runs}) < len(runs):
        raise RunError("two of these runs have the same seed")
    if any(r["metrics"]["data"] != runs[0]["metrics"]["data"] for r in runs):
        raise RunError("these runs were measured on different data")
    config = flat(build_config(without_seed[0]["method"], without_seed[0]["settings"]))
    return {"spec": without_seed[0], "config": config,
            "runs": [{"seed": r["spec"]["seed"], **r["metrics"]} for r in runs]}
