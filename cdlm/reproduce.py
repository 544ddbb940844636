"""A queue of runs that can be cut off and taken up again, and a record of each.

Generated from book/src/94_reproduce.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import csv
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from joblib import Parallel, cpu_count, delayed
from torch import nn
from tqdm import tqdm

from cdlm.checkpoints import CheckpointError
from cdlm.data.archives import DataError
from cdlm.data.batches import normalize
from cdlm.data.domains import Domain, MissingDataError, UnknownDomainError
from cdlm.evaluation import a_distances, accuracy, in_batches, proxy_a_distance, readouts
from cdlm.methods.cdlm import CDLM
from cdlm.methods.plain import Plain
from cdlm.nets import facing
from cdlm.plan import Job
from cdlm.runs import (
    Measuring,
    RunError,
    RunSpec,
    build_config,
    load_spec,
    measure,
    partial_of,
    read_json,
    run,
    write_json,
)
from cdlm.selection import RULES, label_free_scores, select
from cdlm.training import TrainingError

__all__ = [
    "EXPECTED",
    "SNAPSHOTS",
    "UNLABELED",
    "by_dask",
    "by_processes",
    "carry_out",
    "feature_distances",
    "final",
    "glance",
    "is_valid",
    "record_of",
    "reproduce",
    "selections",
    "short",
    "shown",
    "steps_done",
]


# 94_reproduce: What is measured of each run

SNAPSHOTS = 10          # of each run, evenly spaced
UNLABELED = 2000        # target training images that the label-free scores look at


@torch.no_grad()
def glance(method: nn.Module, source: Domain, target: Domain) -> dict:
    """Target accuracy of a method in training, and the label-free scores of what it says of unlabeled target images."""
    chosen = torch.randperm(len(target.train), generator=torch.Generator().manual_seed(0))[:UNLABELED]
    method.eval()
    with facing(method, "target"):
        predicted = in_batches(lambda x: method.logits(normalize(x)).argmax(1), target.test.images)
        logits = in_batches(lambda x: method.logits(normalize(x)), target.train.images[chosen])
    return {"target_accuracy": accuracy(predicted, target.test.labels), "scores": label_free_scores(logits.cpu())}


def final(method: nn.Module, source: Domain, target: Domain) -> dict:
    """All that is measured of a trained method: accuracies, by path where there are several, and A-distances."""
    found = measure(method, source, target)
    if isinstance(method, CDLM):
        read = readouts(method, source.train, target.test.images)
        paths = {path: accuracy(logits.argmax(1), target.test.labels) for path, logits in read.items()}
        distances = a_distances(method, source.test.images, target.test.images, 1000)
        return found | {"paths": paths, "a_distance": distances}
    return found | {"a_distance": feature_distances(method, source, target, 1000)}


@torch.no_grad()
def feature_distances(method: Plain, source: Domain, target: Domain, count: int) -> dict[str, float]:
    """Proxy A-distances between ``count`` test images of each domain, of "pixels" and of "h", as ``a_distances`` has them."""
    generator = torch.Generator().manual_seed(0)
    images, features = [], []
    for side, domain in (("source", source), ("target", target)):
        x = domain.test.images[torch.randperm(len(domain.test), generator=generator)[:count]]
        with facing(method, side):
            images.append(x)
            features.append(method.features(normalize(x)))
    return {"pixels": proxy_a_distance(*images, "rbf"), "h": proxy_a_distance(*features, "rbf")}


# 94_reproduce: One run, one record

def selections(snapshots: Sequence[dict]) -> dict[str, dict[str, float]]:
    """Step and target accuracy of the snapshot that each rule takes, and of the best one, the oracle, which is no rule."""
    chosen = {rule: select([s["scores"] for s in snapshots], rule).index for rule in ("last", *RULES)}
    chosen["oracle"] = max(range(len(snapshots)), key=lambda i: snapshots[i]["target_accuracy"])
    return {rule: {name: snapshots[i][name] for name in ("step", "target_accuracy")} for rule, i in chosen.items()}


def short(value: object) -> object:
    """Numbers of a record to six digits, however deep they lie in it."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: short(part) for name, part in value.items()}
    return [short(part) for part in value] if isinstance(value, list) else value


def record_of(folder: Path) -> dict:
    """The record of a finished run: what it was asked, all settings, what was found, selections by rule, provenance."""
    spec, metrics = load_spec(folder), read_json(folder / "metrics.json")
    return short({"spec": asdict(spec), "config": asdict(build_config(spec.method, spec.settings)),
                  "selected": selections(metrics["snapshots"]), **metrics})


def is_valid(path: Path, spec: RunSpec) -> bool:
    """Whether a file is the record of a run of ``spec``: a whole one, of these settings, size and seed."""
    try:
        found = read_json(path)
    except RunError:
        return False
    wanted = asdict(spec)
    same = all(found.get("spec", {}).get(name) == value for name, value in wanted.items() if name != "size")
    sized = wanted["size"] in ("best", found.get("spec", {}).get("size"))
    return same and sized and "target_accuracy" in found and "selected" in found


# 94_reproduce: One run, one record

EXPECTED = (RunError, TrainingError, CheckpointError, UnknownDomainError, MissingDataError, DataError, OSError)


def carry_out(work: Job, results: Path, folders: Path, device: str = "cpu") -> str:
    """Run a job in a folder of ``folders``, resuming it if it was begun, and store its record; returns "" or what went wrong.

    By one thread: sums are then taken in one order, and the numbers do not depend on how many workers there are.
    """
    torch.set_num_threads(1)
    folder = folders / work.name
    try:
        if folder.exists() and load_spec(folder) != work.spec:
            raise RunError(f"{folder} holds another run; remove it, or name another folder by --work")
        if not folder.exists():
            run(work.spec, folder, device, log_every=max(1, work.spec.steps // 20), channels_last=True,
                measuring=Measuring(SNAPSHOTS, glance, final))
        results.mkdir(parents=True, exist_ok=True)
        write_json(results / f"{work.name}.json", record_of(folder))
    except EXPECTED as error:
        return f"{work.name}: {error}"
    return ""


# 94_reproduce: The queue

def steps_done(work: Job, results: Path, folders: Path) -> int:
    """How many steps of a job are done, by its record or by the table that a run writes while it trains."""
    if is_valid(results / f"{work.name}.json", work.spec):
        return work.spec.steps
    try:
        with open(partial_of(folders / work.name) / "log.csv", newline="", encoding="utf-8") as file:
            return max((int(row[0]) for row in csv.reader(file) if row and row[0].isdigit()), default=0)
    except OSError:
        return 0


@contextmanager
def shown(todo: Sequence[Job], results: Path, folders: Path, quiet: bool) -> Iterator[None]:
    """Within the block, a bar shows the steps done by all workers together, and the time left at this pace."""
    stop = threading.Event()
    with tqdm(total=sum(work.spec.steps for work in todo), unit="step", disable=True if quiet else None) as bar:
        bar.initial = bar.n = sum(steps_done(work, results, folders) for work in todo)
        def watch() -> None:
            while not stop.wait(2):
                done = [steps_done(work, results, folders) for work in todo]
                bar.n = sum(done)
                bar.set_postfix_str(f"{sum(n == work.spec.steps for n, work in zip(done, todo))} of {len(todo)} runs")
        watcher = threading.Thread(target=watch, daemon=True)
        if not bar.disable:
            watcher.start()
        try:
            yield
        finally:
            stop.set()


def by_processes(workers: int) -> Callable:
    """A way to carry out jobs: ``workers`` processes of this machine."""
    def carry(todo: Sequence[Job], *places: object) -> Iterator[str]:
        pool = Parallel(workers, return_as="generator_unordered", batch_size=1, pre_dispatch=workers)
        return pool(delayed(carry_out)(work, *places) for work in todo)
    return carry


def by_dask(address: str, workers: int) -> Callable:
    """A way to carry out jobs: a Dask cluster at ``address``, or one made here for "local". Raises RunError without Dask."""
    try:
        from dask.distributed import Client, LocalCluster, as_completed
    except ImportError:
        raise RunError('Dask is not installed; pip install "cdlm[cluster]", or leave out --dask') from None
    def carry(todo: Sequence[Job], *places: object) -> Iterator[str]:
        where = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) if address == "local" else address
        with Client(where) as client:
            for future in as_completed(client.map(carry_out, todo, *([place] * len(todo) for place in places), pure=False)):
                yield future.result()
    return carry


# 94_reproduce: The queue

def reproduce(todo: Sequence[Job], results: Path, folders: Path, device: str = "cpu", carry: Callable | None = None,
              quiet: bool = False) -> list[str]:
    """Carry out all jobs that have no valid record yet; returns what went wrong, a line for each that failed."""
    missing = [work for work in todo if not is_valid(results / f"{work.name}.json", work.spec)]
    carry = carry or by_processes(1 if device.startswith("cuda") else cpu_count())
    with shown(todo, results, folders, quiet):
        return [message for message in carry(missing, results, folders, device) if message]
