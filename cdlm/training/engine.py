"""One update: optimizers, precision, gradients, and the networks' forward pass, shared or whole.

Generated from book/src/12_engine.md, book/src/73_long_runs.md by `make sync`: edit there, not
here.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR

from cdlm.data.batches import DomainBatch, normalize
from cdlm.data.domain import Split
from cdlm.methods.base import Learner, Now, Round, Trainable, draw_noise
from cdlm.training.team import Team

__all__ = ["Shared", "Trainer", "forward_of", "leaves_some_out", "make_optimizer", "run_round"]


# 12_engine: The engine

def make_optimizer(learner: Learner) -> torch.optim.Optimizer:
    """The optimizer that a learner asks for. Raises ValueError for an unknown one."""
    if learner.optimizer == "sgd":
        return torch.optim.SGD(learner.parameters, learner.lr, learner.momentum,
                               weight_decay=learner.weight_decay)
    if learner.optimizer == "adam":
        return torch.optim.Adam(learner.parameters, learner.lr,
                                weight_decay=learner.weight_decay)
    raise ValueError(
        f'optimizer of {learner.name} is {learner.optimizer!r}; it must be "sgd" or "adam"')


# 12_engine: With schedules, precision and losses

def make_schedule(learner: Learner, optimizer: torch.optim.Optimizer,
                  steps: int) -> LambdaLR:
    """The learner's schedule over ``steps`` iterations, as a scheduler of its optimizer."""
    return LambdaLR(optimizer, lambda done: learner.schedule(done / steps))


def in_precision(precision: str, device: torch.device) -> torch.autocast:
    """Lower precision for a pass forward if ``precision`` is "bfloat16"; without effect
    otherwise."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


class Trainer:
    """Optimizers and schedules of a method, and one iteration after the other, ``done`` of
    ``steps`` so far.

    With "bfloat16" the pass forward is done under autocast; parameters stay as they are.
    Raises ValueError for another precision.
    """

    def __init__(self, method: Trainable, steps: int, precision: str = "float32") -> None:
        if precision not in ("float32", "bfloat16"):
            raise ValueError(f'precision is {precision!r}; it must be "float32" or "bfloat16"')
        self.method, self.steps, self.done, self.precision = method, steps, 0, precision
        self.forward: Callable = method     # several processes put a wrapper in its place
        self.optimizers, self.schedules = {}, {}
        for learner in method.learners():
            self.optimizers[learner.name] = optimizer = make_optimizer(learner)
            self.schedules[learner.name] = make_schedule(learner, optimizer, steps)

    def step(self, batch: DomainBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """One iteration on a batch; returns the losses, each of the first round naming it."""
        eps = draw_noise(self.method, len(batch.x_s), generator, batch.x_s.dtype)
        return self.iterate(batch, eps)

    def iterate(self, batch: DomainBatch, eps: Tensor) -> dict[str, Tensor]:
        """One iteration with given noise: round after round, then the schedules move on."""
        losses = {}
        for each in self.method.rounds():
            # what the first round says of a name counts
            losses = losses | run_round(self, each, batch, eps) | losses
        for schedule in self.schedules.values():
            schedule.step()
        self.done += 1
        return losses


def run_round(trainer: Trainer, each: Round, batch: DomainBatch,
              eps: Tensor) -> dict[str, Tensor]:
    """One round: a pass forward and back, an update of its learners; returns its losses."""
    for optimizer in trainer.optimizers.values():
        optimizer.zero_grad()
    with in_precision(trainer.precision, eps.device):
        now = Now(trainer.done / trainer.steps, each.name)
        objective, losses = trainer.forward(batch, eps, now)
    objective.backward()
    for name in each.learners:
        trainer.optimizers[name].step()
    return {name: value.detach() for name, value in losses.items()}


# 73_long_runs: Several processes

class Shared(nn.Module):
    """A method of which nothing with a gradient comes out but the objective."""

    def __init__(self, method: Trainable) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: DomainBatch, eps: Tensor,
                now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        objective, losses = self.method(batch, eps, now)
        return objective, {name: value.detach() for name, value in losses.items()}


def leaves_some_out(method: Trainable, images: tuple[Split, Split]) -> bool:
    """Whether in some round a method's objective gives some of its parameters no gradient."""
    source, target = images
    x_s, x_t = normalize(source.images[:4]), normalize(target.images[:4])
    none = torch.full((len(x_t),), -1, device=x_t.device)
    own = none if method.label_every else None
    batch = DomainBatch(x_s, source.labels[:4], x_t, x_t, x_s, own)
    eps = x_s.new_zeros(method.noise[0], 4, method.noise[1])
    for name in dict.fromkeys(each.name for each in method.rounds()):
        probe = deepcopy(method)
        probe(batch, eps, Now(0.0, name))[0].backward()
        if any(p.grad is None for p in probe.parameters() if p.requires_grad):
            return True
    return False


def forward_of(method: Trainable, images: tuple[Split, Split], team: Team) -> Callable:
    """What a trainer calls as the forward pass of a method: the method itself, or what shares
    it with the team."""
    if team.size == 1:
        return method
    return DistributedDataParallel(Shared(method),
                                   find_unused_parameters=leaves_some_out(method, images))
