"""Who is told of a training: what callbacks hear, in which order, and what they leave on disk."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
import torch
from long_run import random_domain, small

from cdlm.files import RunError
from cdlm.training.callbacks import Callback, CsvLog, OnLog, TensorBoard
from cdlm.training.loop import Loop, train
from cdlm.training.watch import TrainingError

STEPS = 6


class Ear(Callback):
    """Notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple] = []

    def on_step(self, step, losses) -> None:
        assert losses and all(value.dim() == 0 and not value.requires_grad for value in losses.values())
        self.heard.append(("step", step))

    def on_log(self, row) -> None:
        self.heard.append(("log", row["step"]))

    def on_end(self, log) -> None:
        self.heard.append(("end", len(log)))


def trained(*callbacks: Callback, **loop: object) -> tuple[dict[str, torch.Tensor], list[dict]]:
    model = small()
    log = train(model, random_domain("s", 0), random_domain("t", 1), Loop(STEPS, batch_size=4, log_every=2, **loop), callbacks)
    return model.state_dict(), log


def told_until(steps: int, first: int = 1) -> list[tuple]:
    heard = []
    for step in range(first, steps + 1):
        heard += [("step", step), *([("log", step)] if step % 2 == 0 else [])]
    return heard


def test_all_of_it_is_told_in_its_order() -> None:
    one, two = Ear(), Ear()
    trained(one, two)
    assert one.heard == two.heard == [*told_until(STEPS), ("end", 3)]


def test_a_training_is_the_same_with_and_without() -> None:
    alone, log = trained()
    heard, told = trained(Ear(), OnLog(lambda row: row.clear()))
    assert log == told and all(torch.equal(alone[name], heard[name]) for name in alone)


def test_after_a_resume_the_rows_of_before_are_told_again(tmp_path: Path) -> None:
    class Stop(Callback):
        def on_step(self, step, losses) -> None:
            if step == 5:
                raise RuntimeError("a callback of one's own fails")
    first, second = Ear(), Ear()
    kept = {"checkpoint": tmp_path / "c", "checkpoint_every": 4}
    with pytest.raises(RuntimeError, match="of one's own"):
        trained(first, Stop(), **kept)
    assert first.heard == [*told_until(4), ("step", 5), ("end", 2)]
    trained(second, **kept)
    assert second.heard == [("log", 2), ("log", 4), *told_until(STEPS, 5), ("end", 3)]


def test_the_end_is_told_when_a_loss_is_lost() -> None:
    class Spoil(Callback):
        def __init__(self, model) -> None:
            self.model = model

        def on_step(self, step, losses) -> None:
            next(self.model.parameters()).data.fill_(float("nan"))
    model, ear = small(), Ear()
    with pytest.raises(TrainingError):
        train(model, random_domain("s", 0), random_domain("t", 1), Loop(STEPS, batch_size=4, log_every=2), [Spoil(model), ear])
    assert ear.heard[-1][0] == "end"


def test_a_table_has_the_rows_and_each_can_be_read_at_once(tmp_path: Path) -> None:
    path, seen = tmp_path / "log.csv", []
    _, log = trained(CsvLog(path), OnLog(lambda row: seen.append(path.read_text(encoding="utf-8").count("\n"))))
    assert seen == [2, 3, 4]
    with path.open(newline="", encoding="utf-8") as file:
        assert [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)] == log


def test_tensorboard_has_the_rows(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    _, log = trained(TensorBoard(tmp_path / "events"))
    found = EventAccumulator(str(tmp_path / "events")).Reload()
    for name in log[0].keys() - {"step"}:
        assert [event.step for event in found.Scalars(name)] == [2, 4, 6]
        assert [event.value for event in found.Scalars(name)] == pytest.approx([row[name] for row in log], rel=1e-6)


def test_a_missing_package_and_a_closed_folder_get_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(RunError, match="^TensorBoard is not installed: pip install tensorboard$"):
        TensorBoard(tmp_path)
    monkeypatch.undo()
    pytest.importorskip("tensorboard")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write to .*name another folder"):
        TensorBoard(tmp_path / "file/events")
