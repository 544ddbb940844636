"""Who is told of a training: a table, curves, a progress bar.

Generated from book/src/73_long_runs.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from cdlm.files import RunError, need_folder

__all__ = ["Callback", "Callbacks", "CsvLog", "OnLog", "TensorBoard"]


# 73_long_runs: Who is told

class Callback:
    """What is told of a training while it goes on; a subclass says what it does with it.

    It hears, and has no say: what it returns is not looked at. It runs between two steps, so
    one that draws random numbers has to use a generator of its own.
    """

    def on_step(self, step: int, losses: Mapping[str, Tensor]) -> None:
        """After each step, counted from 1: its losses, scalars on the training's device."""

    def on_log(self, row: Mapping[str, float]) -> None:
        """When a row of the log is made; after a resume first those made before, again."""

    def on_end(self, log: Sequence[Mapping[str, float]]) -> None:
        """At the end, also one by an error or an interrupt: the rows so far. Close files."""


class Callbacks(Callback):
    """Several of them as one, told in their order."""

    def __init__(self, several: Iterable[Callback] = ()) -> None:
        self.several = tuple(several)

    def on_step(self, step: int, losses: Mapping[str, Tensor]) -> None:
        for each in self.several:
            each.on_step(step, losses)

    def on_log(self, row: Mapping[str, float]) -> None:
        for each in self.several:
            each.on_log(row)

    def on_end(self, log: Sequence[Mapping[str, float]]) -> None:
        for each in self.several:
            each.on_end(log)


class OnLog(Callback):
    """Calls a function with each row of the log."""

    def __init__(self, function: Callable[[dict], object]) -> None:
        self.function = function

    def on_log(self, row: Mapping[str, float]) -> None:
        self.function(dict(row))


class CsvLog(Callback):
    """The rows as a new CSV file with a line of names, each readable once it is there."""

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, None

    def on_log(self, row: Mapping[str, float]) -> None:
        begins = self.file is None
        if begins:
            self.file = open(self.path, "w", newline="", encoding="utf-8")
        writer = csv.writer(self.file, lineterminator="\n")
        writer.writerows([row, row.values()] if begins else [row.values()])
        self.file.flush()

    def on_end(self, log: Sequence[Mapping[str, float]]) -> None:
        if self.file is not None:
            self.file.close()


class TensorBoard(Callback):
    """The rows as scalars of TensorBoard in a folder: ``tensorboard --logdir FOLDER``.

    Of a run that was resumed, what is in the folder from before gives way to what is told
    again. Raises RunError where the package is missing or the folder cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise RunError("TensorBoard is not installed: pip install tensorboard") from None
        self.folder, self.kind, self.writer = need_folder(folder), SummaryWriter, None

    def on_log(self, row: Mapping[str, float]) -> None:
        if self.writer is None:
            self.writer = self.kind(str(self.folder), purge_step=0)
        for name, value in row.items():
            if name != "step":
                self.writer.add_scalar(name, value, row["step"])
        self.writer.flush()

    def on_end(self, log: Sequence[Mapping[str, float]]) -> None:
        if self.writer is not None:
            self.writer.close()
