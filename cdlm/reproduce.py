"""A queue of runs that can be cut off and taken up again, and a record of each.

Generated from book/src/94_reproduce.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import csv
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from joblib import Parallel, cpu_count, delayed
from tqdm import tqdm

from cdlm.checkpoints import CheckpointError
from cdlm.data.archives import DataError
from cdlm.data.batches import normalize
from cdlm.data.domains import Domain, MissingDataError, UnknownDomainError
from cdlm.evaluation import a_distances, accuracy, in_batches, readouts
from cdlm.methods.base import Method
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
    record_path,
    run,
    write_json,
)
from cdlm.selection import RULES, label_free_scores, select
from cdlm.settings import flat
from cdlm.training import Interrupted, TrainingError

__all__ = [
    "COMPARED",
    "EXPECTED",
    "RECORDED",
    "SNAPSHOTS",
    "UNLABELED",
    "by_cause",
    "by_dask",
    "by_processes",
    "carry_out",
    "final",
    "fitting_workers",
    "glance",
    "is_run_of",
    "is_valid",
    "need_folder",
    "one_thread",
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
COMPARED = 1000         # test images of each domain that distances are measured between


@torch.no_grad()
def glance(method: Method, source: Domain, target: Domain) -> dict:
    """Target accuracy of a method in training, and the label-free scores of what it says of unlabeled target images."""
    chosen = torch.randperm(len(target.train), generator=torch.Generator().manual_seed(0))[:UNLABELED]
    method.eval()
    with facing(method, "target"):
        predicted = in_batches(lambda x: method.logits(normalize(x)).argmax(1), target.test.images)
        logits = in_batches(lambda x: method.logits(normalize(x)), target.train.images[chosen])
    return {"target_accuracy": accuracy(predicted, target.test.labels), "scores": label_free_scores(logits.cpu())}


def final(method: Method, source: Domain, target: Domain) -> dict:
    """All that is measured of a trained method: accuracies, by path too, and A-distances."""
    found = measure(method, source, target)
    if method.draws:
        read, labels = readouts(method, source.train, target.test.images), target.test.labels
        found["paths"] = {path: accuracy(logits.argmax(1), labels)
                          for path, logits in read.items()}
    count = min(COMPARED, len(source.test), len(target.test))
    distances = a_distances(method, source.test.images, target.test.images, count)
    return found | {"a_distance": distances}


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


RECORDED = frozenset(("spec", "config", "source_accuracy", "target_accuracy", "a_distance", "snapshots", "selected", "log",
                      "data", "provenance", "seconds"))


def record_of(folder: Path) -> dict:
    """The record of a finished run: what it was asked, all settings, what was found, selections by rule, provenance."""
    spec, metrics = load_spec(folder), read_json(folder / "metrics.json")
    asked = {"spec": asdict(spec), "config": flat(build_config(spec.method, spec.settings))}
    return asked | short({"selected": selections(metrics["snapshots"]), **metrics})


def is_run_of(spec: RunSpec, asked: object) -> bool:
    """Whether ``asked``, the "spec" of a record, is ``spec``; one that wants the "best" data takes any size of them."""
    wanted = asdict(spec)
    if not isinstance(asked, dict):
        return False
    return asked | ({"size": wanted["size"]} if "best" in spec.size else {}) == wanted


def is_valid(path: Path, spec: RunSpec) -> bool:
    """Whether a file is the record of a run of ``spec``: a whole one, of these settings, this seed and size.

    Whether the data are still those that it was measured on is not looked at: their checksums stand in the record.
    """
    try:
        found = read_json(path)
    except RunError:
        return False
    return RECORDED <= found.keys() and is_run_of(spec, found["spec"])


EXPECTED = (RunError, TrainingError, CheckpointError, UnknownDomainError, MissingDataError, DataError, OSError)


@contextmanager
def one_thread() -> Iterator[None]:
    """Within the block torch computes by one thread: sums have one order, however many workers and cores there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def carry_out(work: Job, results: Path, folders: Path, device: str = "cpu") -> str:
    """Run a job in a folder of ``folders``, resuming it if it was begun, and store its record; "" or "JOB: what went wrong".

    A checkpoint is kept with each row of the log, every twentieth of the steps. What nobody foresaw is told too, with the
    place where it happened: one bad run should not end a queue. Raises KeyboardInterrupt, or its kind Interrupted.
    """
    folder, every = folders / work.name, max(1, work.spec.steps // 20)
    try:
        if not folder.exists():
            with one_thread():
                run(work.spec, folder, device, log_every=every, checkpoint_every=every, channels_last=True,
                    measuring=Measuring(SNAPSHOTS, glance, final))
        if not is_run_of(work.spec, asdict(load_spec(folder))):
            raise RunError(f"{folder} holds another run; remove it, or name another folder by --work")
        write_json(results / f"{work.name}.json", record_of(folder))
    except EXPECTED as error:
        return f"{work.name}: {'; '.join(line.strip() for line in str(error).splitlines())}"
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{work.name}: {type(error).__name__} in {place.name}, {Path(place.filename).name}:{place.lineno}: {error}"
    return ""


# 94_reproduce: The queue

def steps_done(work: Job, results: Path, folders: Path) -> int:
    """How many steps of a job are done, by its record or by the table that a run writes while it trains."""
    if is_valid(record_path(work.name, results), work.spec):
        return work.spec.steps
    try:
        with open(partial_of(folders / work.name) / "log.csv", newline="", encoding="utf-8") as file:
            return max((int(row[0]) for row in csv.reader(file) if row and row[0].isdigit()), default=0)
    except OSError:
        return 0


@contextmanager
def shown(todo: Sequence[Job], results: Path, folders: Path, quiet: bool) -> Iterator[None]:
    """Within the block, a bar shows the steps done by all workers together, and the time left at their pace."""
    over = threading.Event()
    def look() -> list[int]:
        return [steps_done(work, results, folders) for work in todo]
    def show() -> None:
        done = look()
        bar.n = sum(done)
        bar.set_postfix_str(f"{sum(n == work.spec.steps for n, work in zip(done, todo))} of {len(todo)} runs")
    def watch() -> None:
        while not over.wait(2):
            show()
    with tqdm(total=sum(work.spec.steps for work in todo), unit="step", disable=True if quiet else None) as bar:
        if bar.disable:
            yield
            return
        bar.initial = bar.n = sum(look())                           # the pace is that of steps done from now on
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
            show()


def by_processes(workers: int) -> Callable:
    """A way to carry out jobs: ``workers`` processes of this machine, or this one if they are not more."""
    def carry(todo: Sequence[Job], *places: object) -> Iterator[str]:
        if workers == 1:
            yield from (carry_out(work, *places) for work in todo)
            return
        pool = Parallel(workers, return_as="generator_unordered", batch_size=1, pre_dispatch=workers)
        try:
            yield from pool(delayed(carry_out)(work, *places) for work in todo)
        except BrokenProcessPool:
            raise RunError("a worker was killed, perhaps for want of memory, and the others were stopped; the same command "
                           "goes on from their checkpoints, and --workers says how many there are") from None
    return carry


def by_dask(address: str, workers: int) -> Callable:
    """A way to carry out jobs: a Dask cluster at ``address``, or one made here for "local". Raises RunError without Dask."""
    try:
        from dask.distributed import Client, LocalCluster, as_completed
    except ImportError:
        raise RunError('Dask is not installed; pip install "cdlm[cluster]", or leave out --dask') from None
    def carry(todo: Sequence[Job], *places: object) -> Iterator[str]:
        with ExitStack() as stack:
            try:
                where = address if address != "local" else stack.enter_context(
                    LocalCluster(n_workers=workers, threads_per_worker=1, memory_limit=0, dashboard_address=None))
                client = stack.enter_context(Client(where, timeout=10))
            except (OSError, ValueError) as error:
                raise RunError(f"no Dask cluster answers at {address}: {error}") from None
            given = [client.submit(carry_out, work, *places, key=work.name, pure=False) for work in todo]
            for future in as_completed(given):
                if future.status == "error":
                    raise RunError(f"the cluster lost {future.key} ({type(future.exception()).__name__}); the same command "
                                   "goes on from its last checkpoint")
                yield future.result()
    return carry


def need_folder(folder: Path) -> Path:
    """``folder``, absolute, made if need be, into which files can be written. Raises RunError where they cannot."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder.absolute()
    except OSError as error:
        raise RunError(f"cannot write to {folder}: {error.strerror}; name another folder") from None


def reproduce(todo: Sequence[Job], results: Path, folders: Path, device: str = "cpu", carry: Callable | None = None,
              quiet: bool = False) -> list[str]:
    """Carry out all jobs that have no valid record yet; returns what went wrong, a line "JOB: CAUSE" for each that failed.

    ``carry`` is ``by_processes`` or ``by_dask`` of something; by default a process for each core, or one for a GPU. Raises
    RunError for folders that cannot be written, before anything is trained, and Interrupted.
    """
    results, folders = need_folder(results), need_folder(folders)
    missing = [work for work in todo if not is_valid(record_path(work.name, results), work.spec)]
    carry = carry or by_processes(fitting_workers(len(missing), device))
    try:
        with shown(todo, results, folders, quiet):
            return [message for message in carry(missing, results, folders, device) if message] if missing else []
    except KeyboardInterrupt:
        done = sum(is_valid(record_path(work.name, results), work.spec) for work in todo)
        raise Interrupted(f"interrupted with {done} of {len(todo)} runs on record; the same command goes on") from None


def fitting_workers(count: int, device: str) -> int:
    """How many processes to share ``count`` jobs among: one for each core that we may use, or one in all on a GPU."""
    return max(1, min(count, cpu_count())) if device == "cpu" else 1


def by_cause(failures: Iterable[str]) -> list[str]:
    """Lines "JOB: CAUSE", with those of the same cause in one."""
    jobs_by_cause: dict[str, list[str]] = {}
    for name, _, cause in (line.partition(": ") for line in failures):
        jobs_by_cause.setdefault(cause, []).append(name)
    return [f"{', '.join(names[:2])}{f' and {len(names) - 2} more' if len(names) > 2 else ''}: {cause}"
            for cause, names in jobs_by_cause.items()]
