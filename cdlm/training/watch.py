"""What stops a training: a loss that is lost, or somebody who interrupts.

Generated from book/src/73_long_runs.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from cdlm.training.team import Team

__all__ = [
    "DIVERGED",
    "Interrupted",
    "LossWindow",
    "NEVER",
    "TrainingError",
    "first_lost",
    "new_table",
    "noted_interrupts",
    "with_losses",
]


# 73_long_runs: When a loss is lost

class TrainingError(RuntimeError):
    """Training cannot go on; the message says at which step and why."""


DIVERGED = 1e6              # times its first value: a loss as large as that does not come back
NEVER = 1e9                 # in the place of a step that has not been


def new_table(values: Tensor) -> Tensor:
    """The table of a LossWindow before its first losses ``values``, (losses,)."""
    limits = DIVERGED * values.nan_to_num(1, 1, 1).abs().clamp_min(1)
    return torch.stack([torch.zeros_like(values), limits, torch.full_like(values, NEVER),
                        torch.zeros_like(values)])


def with_losses(table: Tensor, step: int, values: Tensor) -> Tensor:
    """The table of a LossWindow with the losses of one more step."""
    sums, limits, lost, at_loss = table
    now = ~(values.abs() <= limits) & (lost == NEVER)  # also where a value is not a number
    return torch.stack([sums + values, limits, torch.where(now, step, lost),
                        torch.where(now, values, at_loss)])


def first_lost(names: list[str], own: list[float], lost: list[float],
               at_loss: list[float]) -> str:
    """What to say of the loss that was lost first, or "".

    ``own`` and ``lost`` are the steps of that in this process and in the whole team.
    """
    first = min(range(len(lost)), key=lost.__getitem__)
    if lost[first] == NEVER:
        return ""
    value = f"{at_loss[first]:.4g}" if own[first] == lost[first] else "lost in another process"
    return f"loss {names[first]!r} is {value} at step {lost[first]:.0f}"


class LossWindow:
    """Sums of losses since the last row of the log, and when each was lost first; all on the
    losses' device.

    ``table`` is (4, losses): the sums, the limits, the steps at which a loss was lost first,
    and its values then.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.table: Tensor | None = None

    def add(self, step: int, losses: dict[str, Tensor]) -> None:
        """Take the losses of a step, scalars. Waits for nothing."""
        values = torch.stack(
            [value.detach().to(torch.promote_types(value.dtype, torch.float32))
             for value in losses.values()])
        if self.table is None:
            self.names, self.table = list(losses), new_table(values)
        self.table = with_losses(self.table, step, values)

    def read(self, team: Team) -> tuple[dict[str, float], str]:
        """The sums by name, over all processes, and of the loss that was lost first what to
        say of it, or ""."""
        sums, _, lost, at_loss = self.table
        sums, own, lost, at_loss = torch.stack(
            [team.mean(sums.clone()), lost, team.least(lost.clone()), at_loss]).tolist()
        return dict(zip(self.names, sums)), first_lost(self.names, own, lost, at_loss)

    def settle(self, team: Team) -> None:
        """Give all processes of a team the same window, the mean of theirs, before the first
        of them stores it."""
        sums, limits, lost, at_loss = self.table
        if team.size > 1:
            self.table = torch.stack([team.mean(sums.clone()), team.least(limits.clone()),
                                      team.least(lost.clone()), at_loss])

    def clear(self) -> None:
        """Begin a new row."""
        self.table = torch.cat([torch.zeros_like(self.table[:1]), self.table[1:]])


# 73_long_runs: The loop

class Interrupted(KeyboardInterrupt):
    """Training was interrupted, and can be resumed; the message says how."""


@contextmanager
def noted_interrupts(wanted: bool, patient: bool = False) -> Iterator[Callable[[], bool]]:
    """A function that tells whether SIGINT or SIGTERM has come since; a second one interrupts
    at once, unless ``patient``.

    Where it is not ``wanted``, and outside of the main thread, which alone hears signals,
    nothing is changed.
    """
    noted = []
    def note(number: int, frame: object) -> None:
        if noted and not patient:
            raise KeyboardInterrupt
        noted.append(number)
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, note)
              for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(noted)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
