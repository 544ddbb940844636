"""What the files of a run, and records, hold: checked whenever one is read.

Generated from book/src/02_records.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, Tag
from pydantic import Discriminator as ToldBy

__all__ = [
    "Accuracy",
    "AnyRecord",
    "Asked",
    "Chosen",
    "FullMetrics",
    "Glanced",
    "JoinedRecord",
    "LedgerEntry",
    "LedgerFile",
    "LogRow",
    "Measurement",
    "Metrics",
    "Pair",
    "RunConfig",
    "RunRecord",
    "Seeded",
    "Shape",
    "Shifts",
    "Snapshot",
    "SnapshotFile",
    "Tested",
    "Whole",
    "kind_of_record",
]


# 02_records: What a file holds

Accuracy = Annotated[float, Field(ge=0, le=1)]
Whole = Annotated[int, Field(ge=0)]


class Shape(BaseModel):
    """Base of all: types as they are, numbers finite, and room for more than is named."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class Asked(Shape):
    """What runs were asked that differ in their seed only."""

    method: str
    source: str
    target: str
    steps: int
    batch_size: int
    settings: dict[str, bool | int | float | str]
    size: str = "sample"                # older runs do not say
    precision: str = "float32"
    augment: dict[str, float] = {}
    strong: dict[str, float] = {}


class RunConfig(Asked, extra="forbid"):
    """``config.json`` of a run."""

    seed: int


class LogRow(Shape):
    """A row of a log: the step, and numbers by name."""

    __pydantic_extra__: dict[str, float]
    step: Whole


class Snapshot(Shape):
    """What a method was found to be after a step of its training."""

    step: Whole
    seconds: float


class Chosen(Shape):
    """A snapshot that a rule takes."""

    step: Whole
    target_accuracy: Accuracy


class Glanced(Snapshot, Chosen):
    """A snapshot that rules choose among."""

    scores: dict[str, float]


class SnapshotFile(Shape):
    """``snapshots.json`` of a run that is not finished."""

    snapshots: list[Snapshot]


class Metrics(Shape):
    """``metrics.json`` of a run; a target without labels has no accuracy."""

    source_accuracy: Accuracy
    target_accuracy: Accuracy = 0.0
    data: dict[str, str]
    provenance: dict[str, object]
    log: list[LogRow]
    seconds: float
    snapshots: list[Snapshot] = []
    paths: dict[str, Accuracy] = {}
    a_distance: dict[str, float] = {}


class Seeded(Metrics):
    """One run in a record of several."""

    seed: int


class JoinedRecord(Shape):
    """A record of runs that differ in their seed only."""

    spec: Asked
    config: dict[str, object]
    runs: Annotated[list[Seeded], Field(min_length=1)]


class FullMetrics(Metrics):
    """``metrics.json`` of a run of an experiment."""

    target_accuracy: Accuracy
    a_distance: dict[str, float]
    snapshots: Annotated[list[Glanced], Field(min_length=1)]


class RunRecord(FullMetrics):
    """The record of such a run."""

    spec: RunConfig
    config: dict[str, object]
    selected: dict[str, Chosen]


class Tested(Shape):
    """How a test of an equation came out, and what it checks."""

    outcome: str
    checks: list[str]


class LedgerEntry(Shape):
    """What the ledger records of an equation."""

    statement: str = ""
    fingerprints: dict[str, str] = {}
    tests: dict[str, Tested] = {}


class LedgerFile(Shape):
    """The recorded outcomes of the ledger of equations."""

    provenance: dict[str, object]
    equations: dict[str, LedgerEntry]


class Measurement(Shape):
    """A record of something else than accuracy: of what, where, and of which runs."""

    measured: str
    provenance: dict[str, object] = {}
    runs: list[dict[str, object]] = []


class Pair(Shape):
    """One pair of domains, and how far they are apart, seed by seed."""

    source: str
    target: str
    runs: list[dict[str, object]]


class Shifts(Shape):
    """The record of shifts between domains."""

    settings: dict[str, object]
    pairs: list[Pair]
    data: dict[str, str]
    found: dict[str, dict[str, object]]
    provenance: dict[str, object]
    video: list[dict[str, object]] = []


def kind_of_record(content: object) -> str:
    """By one of its names, which kind of record this would be."""
    names = content if isinstance(content, dict) else ()
    return next((name for name in ("measured", "pairs", "runs") if name in names), "one run")


AnyRecord = Annotated[
    Annotated[Measurement, Tag("measured")] | Annotated[Shifts, Tag("pairs")]
    | Annotated[JoinedRecord, Tag("runs")] | Annotated[RunRecord, Tag("one run")],
    ToldBy(kind_of_record)]
