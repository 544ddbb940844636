"""The loop: device, steps, log, and what stops it.

Generated from book/src/40_cdlm.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from cdlm.data.batches import draw_pair
from cdlm.data.domains import Domain

__all__ = ["TrainingError", "train"]


# 40_cdlm: Training

class TrainingError(RuntimeError):
    """Training cannot go on; the message says at which step and why."""


def train(method: nn.Module, source: Domain, target: Domain, steps: int, seed: int = 0, batch_size: int = 64,
          device: str = "cpu", log_every: int = 50, report: Callable[[dict], None] | None = None) -> list[dict]:
    """Train ``method`` for a fixed number of steps; returns the log, a row each ``log_every`` steps with mean losses.

    Images live on ``device`` as bytes. ``report`` is called with each row. Target labels are never read.
    Raises TrainingError if a loss becomes infinite or not a number.
    """
    generator = torch.Generator(device).manual_seed(seed)
    source_images, target_images = source.train.to(device), target.train.to(device)
    method.to(device).train().configure(steps)
    log, sums = [], {}
    for step in range(1, steps + 1):
        batch = draw_pair(source_images, target_images, batch_size, generator)
        for name, value in method.step(batch, generator).items():
            sums[name] = sums.get(name, 0) + value                     # stays on the device
        if step % log_every == 0 or step == steps:
            since = step - (log[-1]["step"] if log else 0)
            row = {"step": step} | {name: float(total) / since for name, total in sums.items()}
            log.append(row)
            sums = {}
            broken = [name for name, value in row.items() if not math.isfinite(value)]
            if broken:
                raise TrainingError(f"loss {broken[0]!r} is {row[broken[0]]} at step {step}: lower the learning rates")
            if report is not None:
                report(row)
    method.eval()
    return log
