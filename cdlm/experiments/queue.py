"""A queue of runs that can be cut off and taken up again.

Generated from book/src/80_plan_and_queue.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import csv
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from joblib import Parallel, cpu_count, delayed
from tqdm import tqdm

from cdlm.experiments.plan import Job
from cdlm.experiments.record import carry_out, is_run_of, is_valid
from cdlm.files import RunError, need_folder, need_place
from cdlm.runs.folder import partial_of
from cdlm.runs.record import record_path
from cdlm.training.watch import Interrupted

__all__ = [
    "by_cause",
    "by_dask",
    "by_processes",
    "carry_out_for",
    "end_with",
    "fitting_workers",
    "reproduce",
    "show_progress",
    "shown",
    "steps_done",
]


# 80_plan_and_queue: The queue

def steps_done(work: Job, results: Path, folders: Path) -> int:
    """How many steps of a job are done, by its record or by the table that a run writes while
    it trains."""
    if is_valid(record_path(work.name, results), work.spec):
        return work.spec.steps
    try:
        with open(partial_of(folders / work.name) / "log.csv", newline="",
                  encoding="utf-8") as file:
            return max((int(row[0]) for row in csv.reader(file) if row and row[0].isdigit()),
                       default=0)
    except OSError:
        return 0


def show_progress(bar: tqdm, todo: Sequence[Job], results: Path, folders: Path) -> None:
    """Set a bar to the steps that are done of all jobs together, and say how many
    are whole."""
    done = [steps_done(work, results, folders) for work in todo]
    whole = sum(n == work.spec.steps for n, work in zip(done, todo))
    bar.n = sum(done)
    bar.set_postfix_str(f"{whole} of {len(todo)} runs")


@contextmanager
def shown(todo: Sequence[Job], results: Path, folders: Path, quiet: bool) -> Iterator[None]:
    """Within the block, a bar shows the steps done by all workers together, and the time left
    at their pace."""
    over = threading.Event()
    def watch() -> None:
        while not over.wait(2):
            show_progress(bar, todo, results, folders)
    with tqdm(total=sum(work.spec.steps for work in todo), unit="step",
              disable=True if quiet else None) as bar:
        if bar.disable:
            yield
            return
        # the pace is that of steps done from now on
        bar.initial = bar.n = sum(steps_done(work, results, folders) for work in todo)
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
            show_progress(bar, todo, results, folders)


@cache
def end_with(parent: int) -> None:
    """Let this process end when the process ``parent``, which has started it, is there no
    more."""
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)
    threading.Thread(target=watch, daemon=True).start()


def carry_out_for(parent: int, work: Job, *places: object) -> str:
    """``carry_out`` in a worker of the process ``parent``; a worker does not outlive it."""
    end_with(parent)
    return carry_out(work, *places)


def by_processes(workers: int) -> Callable:
    """A way to carry out jobs: ``workers`` processes of this machine, or this one if they are
    not more."""
    def carry(todo: Sequence[Job], *places: object) -> Iterator[str]:
        if workers == 1:
            yield from (carry_out(work, *places) for work in todo)
            return
        pool = Parallel(workers, return_as="generator_unordered", batch_size=1,
                        pre_dispatch=workers)
        try:
            yield from pool(delayed(carry_out_for)(os.getpid(), work, *places)
                            for work in todo)
        except BrokenProcessPool:
            raise RunError("a worker was killed, perhaps for want of memory, and the others "
                           "were stopped; the same command goes on from their checkpoints, "
                           "and --workers says how many there are") from None
    return carry


def by_dask(address: str, workers: int) -> Callable:
    """A way to carry out jobs: a Dask cluster at ``address``, or one made here for "local".

    Raises RunError without Dask.
    """
    try:
        from dask.distributed import Client, LocalCluster, as_completed
    except ImportError:
        raise RunError('Dask is not installed; pip install "cdlm[cluster]", '
                       'or leave out --dask') from None
    def carry(todo: Sequence[Job], *places: object) -> Iterator[str]:
        with ExitStack() as stack:
            try:
                where = address if address != "local" else stack.enter_context(
                    LocalCluster(n_workers=workers, threads_per_worker=1, memory_limit=0,
                                 dashboard_address=None))
                client = stack.enter_context(Client(where, timeout=10))
            except (OSError, ValueError) as error:
                raise RunError(f"no Dask cluster answers at {address}: {error}") from None
            given = [client.submit(carry_out, work, *places, key=work.name, pure=False)
                     for work in todo]
            for future in as_completed(given):
                if future.status == "error":
                    raise RunError(f"the cluster lost {future.key} "
                                   f"({type(future.exception()).__name__}); "
                                   "the same command goes on from its last checkpoint")
                yield future.result()
    return carry


def reproduce(todo: Sequence[Job], results: Path, folders: Path, device: str = "cpu",
              carry: Callable | None = None, quiet: bool = False) -> list[str]:
    """Carry out all jobs that have no valid record yet; returns what went wrong, a line "JOB:
    CAUSE" for each that failed.

    ``carry`` is ``by_processes`` or ``by_dask`` of something; by default a process for each
    core, or one for a GPU. Raises RunError for folders that cannot be written, and for files
    that no record may replace, before anything is trained, and Interrupted.
    """
    results, folders = need_folder(results), need_folder(folders)
    missing = [work
               for work in todo if not is_valid(record_path(work.name, results), work.spec)]
    for work in missing:
        need_place(results / f"{work.name}.json",
                   lambda old, spec=work.spec: is_run_of(spec, old.get("spec")))
    carry = carry or by_processes(fitting_workers(len(missing), device))
    try:
        with shown(todo, results, folders, quiet):
            return [message for message in carry(missing, results, folders, device)
                    if message] if missing else []
    except KeyboardInterrupt:
        done = sum(is_valid(record_path(work.name, results), work.spec) for work in todo)
        raise Interrupted(f"interrupted with {done} of {len(todo)} runs on record; "
                          "the same command goes on") from None


def fitting_workers(count: int, device: str) -> int:
    """How many processes to share ``count`` jobs among: one for each core that we may use, or
    one in all on a GPU."""
    return max(1, min(count, cpu_count())) if device == "cpu" else 1


def by_cause(failures: Iterable[str]) -> list[str]:
    """Lines "JOB: CAUSE", with those of the same cause in one."""
    jobs_by_cause: dict[str, list[str]] = {}
    for name, _, cause in (line.partition(": ") for line in failures):
        jobs_by_cause.setdefault(cause, []).append(name)
    return [
        f"{', '.join(names[:2])}{f' and {len(names) - 2} more' if len(names) > 2 else ''}: "
        f"{cause}" for cause, names in jobs_by_cause.items()]
