"""What is measured of a run of an experiment, and its record.

Generated from book/src/80_plan_and_queue.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch

from cdlm.data.archives import DataError
from cdlm.data.batches import normalize
from cdlm.data.domain import Domain, MissingDataError, UnknownDomainError
from cdlm.evaluation.accuracy import accuracy
from cdlm.evaluation.distances import a_distances
from cdlm.evaluation.readouts import in_batches, readouts
from cdlm.evaluation.selection import RULES, label_free_scores, select
from cdlm.experiments.plan import Job
from cdlm.files import RunError, fault_of, read_json, write_json
from cdlm.methods.base import Method
from cdlm.methods.registry import build_config
from cdlm.model.normalization import facing
from cdlm.runs.folder import METRICS, load_spec
from cdlm.runs.record import check_record
from cdlm.runs.run import Measuring, measure, read_run, run
from cdlm.runs.spec import RunSpec
from cdlm.settings import flat
from cdlm.shapes import FullMetrics, RunRecord
from cdlm.training.checkpoints import CheckpointError
from cdlm.training.watch import TrainingError

__all__ = [
    "COMPARED",
    "EXPECTED",
    "SNAPSHOTS",
    "UNLABELED",
    "carry_out",
    "final",
    "glance",
    "is_run_of",
    "is_valid",
    "one_thread",
    "record_of",
    "selections",
    "short",
]


# 80_plan_and_queue: What is measured of each run

SNAPSHOTS = 10          # of each run, evenly spaced
UNLABELED = 2000        # target training images that the label-free scores look at
COMPARED = 1000         # test images of each domain that distances are measured between


@torch.no_grad()
def glance(method: Method, source: Domain, target: Domain) -> dict:
    """Target accuracy of a method in training, and the label-free scores of what it says of
    unlabeled target images."""
    chosen = torch.randperm(len(target.train),
                            generator=torch.Generator().manual_seed(0))[:UNLABELED]
    method.eval()
    with facing(method, "target"):
        predicted = in_batches(lambda x: method.logits(normalize(x)).argmax(1),
                               target.test.images)
        logits = in_batches(lambda x: method.logits(normalize(x)), target.train.images[chosen])
    return {"target_accuracy": accuracy(predicted, target.test.labels),
            "scores": label_free_scores(logits.cpu())}


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


# 80_plan_and_queue: One run, one record

def selections(snapshots: Sequence[dict]) -> dict[str, dict[str, float]]:
    """Step and target accuracy of the snapshot that each rule takes, and of the best one, the
    oracle, which is no rule."""
    chosen = {rule: select([s["scores"] for s in snapshots], rule).index
              for rule in ("last", *RULES)}
    chosen["oracle"] = max(range(len(snapshots)),
                           key=lambda i: snapshots[i]["target_accuracy"])
    return {rule: {name: snapshots[i][name] for name in ("step", "target_accuracy")}
            for rule, i in chosen.items()}


def short(value: object) -> object:
    """Numbers of a record to six digits, however deep they lie in it."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: short(part) for name, part in value.items()}
    return [short(part) for part in value] if isinstance(value, list) else value


def record_of(folder: Path) -> dict:
    """The record of a finished run: what it was asked, all settings, what was found,
    selections by rule, provenance."""
    spec, metrics = read_run(folder)
    if wrong := fault_of(metrics, FullMetrics):
        raise RunError(f"{folder / METRICS} is damaged ({wrong}); restore it, or train again")
    if any(not RULES.keys() <= shot["scores"].keys() for shot in metrics["snapshots"]):
        raise RunError(f"{folder / METRICS} is damaged (a snapshot lacks a score); "
                       "restore it, or train again")
    asked = {"spec": asdict(spec), "config": flat(build_config(spec.method, spec.settings))}
    return asked | short({"selected": selections(metrics["snapshots"]), **metrics})


def is_run_of(spec: RunSpec, asked: object) -> bool:
    """Whether ``asked``, the "spec" of a record, is ``spec``; one that wants the "best" data
    takes any size of them."""
    wanted = asdict(spec)
    if not isinstance(asked, dict):
        return False
    return asked | ({"size": wanted["size"]} if "best" in spec.size else {}) == wanted


def is_valid(path: Path, spec: RunSpec) -> bool:
    """Whether a file is the record of a run of ``spec``: a whole one, of these settings, this
    seed and size.

    Whether the data are still those that it was measured on is not looked at: their checksums
    stand in the record.
    """
    try:
        found = check_record(path, read_json(path, RunRecord))
    except RunError:
        return False
    return is_run_of(spec, found["spec"])


EXPECTED = (RunError, TrainingError, CheckpointError, UnknownDomainError, MissingDataError,
            DataError, OSError)


@contextmanager
def one_thread() -> Iterator[None]:
    """Within the block torch computes by one thread: sums have one order, however many workers
    and cores there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def carry_out(work: Job, results: Path, folders: Path, device: str = "cpu") -> str:
    """Run a job in a folder of ``folders``, resuming it if it was begun, and store its record;
    "" or "JOB: what went wrong".

    A checkpoint is kept with each row of the log, every twentieth of the steps. What nobody
    foresaw is told too, with the place where it happened: one bad run should not end a queue.
    Raises KeyboardInterrupt, or its kind Interrupted.
    """
    folder, every = folders / work.name, max(1, work.spec.steps // 20)
    try:
        if not folder.exists():
            with one_thread():
                run(work.spec, folder, device, log_every=every, checkpoint_every=every,
                    channels_last=True, measuring=Measuring(SNAPSHOTS, glance, final))
        if not is_run_of(work.spec, asdict(load_spec(folder))):
            raise RunError(
                f"{folder} holds another run; remove it, or name another folder by --work")
        write_json(results / f"{work.name}.json", record_of(folder))
    except EXPECTED as error:
        return f"{work.name}: {'; '.join(line.strip() for line in str(error).splitlines())}"
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return (f"{work.name}: {type(error).__name__} in {place.name}, "
                f"{Path(place.filename).name}:{place.lineno}: {error}")
    return ""
