"""The engine: updates, precision, the loop, and what stops it.

Generated from book/src/72_algorithm.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from cdlm.data.batches import DomainBatch, draw_pair
from cdlm.data.domains import Domain
from cdlm.methods.base import Learner, Method, draw_noise

__all__ = ["Trainer", "TrainingError", "make_optimizer", "train"]


# 72_algorithm: The engine

def make_optimizer(learner: Learner) -> torch.optim.Optimizer:
    """The optimizer that a learner asks for. Raises ValueError for an unknown one."""
    if learner.optimizer == "sgd":
        return torch.optim.SGD(learner.parameters, learner.lr, momentum=learner.momentum)
    if learner.optimizer == "adam":
        return torch.optim.Adam(learner.parameters, learner.lr)
    raise ValueError(f'optimizer of {learner.name} is {learner.optimizer!r}; it must be "sgd" or "adam"')


# 72_algorithm: The engine

class Trainer:
    """Optimizers and schedules of a method, and one iteration after the other, ``done`` of ``steps`` so far.

    With "bfloat16" the pass forward is done under autocast; parameters stay as they are. Raises ValueError for another
    precision.
    """

    def __init__(self, method: Method, steps: int, precision: str = "float32") -> None:
        if precision not in ("float32", "bfloat16"):
            raise ValueError(f'precision is {precision!r}; it must be "float32" or "bfloat16"')
        self.method, self.steps, self.done, self.precision = method, steps, 0, precision
        self.forward: Callable = method                 # what is called; a wrapper for several processes takes its place
        self.optimizers, self.schedules = {}, {}
        for learner in method.learners():
            optimizer = self.optimizers[learner.name] = make_optimizer(learner)
            factor = learner.schedule
            self.schedules[learner.name] = LambdaLR(optimizer, lambda done, factor=factor: factor(done / steps))

    def step(self, batch: DomainBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """One iteration on a batch; returns the losses before its first update, detached."""
        return self.iterate(batch, draw_noise(self.method, len(batch.x_s), generator, batch.x_s.dtype))

    def iterate(self, batch: DomainBatch, eps: Tensor) -> dict[str, Tensor]:
        """One iteration with given noise: for each round a pass forward, a pass backward, and an update of its learners."""
        first, *later = self.method.rounds()
        losses = self.update(first, batch, eps)
        for names in later:
            self.update(names, batch, eps)
        for schedule in self.schedules.values():
            schedule.step()
        self.done += 1
        return losses

    def update(self, names: tuple[str, ...], batch: DomainBatch, eps: Tensor) -> dict[str, Tensor]:
        """One pass forward and backward, and an update of the named learners."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        with torch.autocast(eps.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            objective, losses = self.forward(batch, eps, self.done / self.steps)
        objective.backward()
        for name in names:
            self.optimizers[name].step()
        return {name: value.detach() for name, value in losses.items()}


# 72_algorithm: The engine

class TrainingError(RuntimeError):
    """Training cannot go on; the message says at which step and why."""


def train(method: Method, source: Domain, target: Domain, steps: int, seed: int = 0, batch_size: int = 64,
          device: str = "cpu", log_every: int = 50, report: Callable[[dict], None] | None = None) -> list[dict]:
    """Train ``method`` for a fixed number of steps; returns the log, a row each ``log_every`` steps with mean losses.

    Images live on ``device`` as bytes. ``report`` is called with each row. Target labels are never read.
    Raises TrainingError if a loss becomes infinite or not a number.
    """
    generator = torch.Generator(device).manual_seed(seed)
    source_images, target_images = source.train.to(device), target.train.to(device)
    method.to(device).train().prepare(source_images.images, target_images.images)
    trainer, log, sums = Trainer(method, steps), [], {}
    for step in range(1, steps + 1):
        batch = draw_pair(source_images, target_images, batch_size, generator)
        for name, value in trainer.step(batch, generator).items():
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
