"""One training step in many ways.

Generated from book/src/75_fast.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cdlm.data.batches import DomainBatch
from cdlm.methods.base import Now, draw_noise
from cdlm.methods.cdlm import CDLM, CDLMConfig, literal_losses, objectives
from cdlm.model.gradients import set_gradients
from cdlm.settings import Images
from cdlm.training.engine import Trainer

__all__ = [
    "COMPILED",
    "GROUPS",
    "LADDER",
    "Way",
    "group_gradients",
    "literal_step",
    "make_step",
    "random_batch",
    "way_gradients",
]


# 75_fast: One update in many ways

@dataclass(frozen=True)
class Way:
    """One way to make a training step; all ways make the same update, but for rounding and
    noise."""

    written: str = "fused"  # "fused" (one pass), "literal" (Algorithm 1 as printed) or "lean"
    precision: str = "float32"          # or "bfloat16", by autocast
    # order of images in memory: channels beside each other, or rows
    channels_last: bool = False
    compiled: bool = False              # whether the three networks are compiled
    keeps_memory: bool = False          # whether freed memory stays with the process
    # whether optimizers update a parameter in one pass over memory ("fused" in PyTorch)
    one_pass: bool = False


LADDER = {
    "literal": Way("literal"),
    "literal, lean": Way("lean"),
    "fused": Way(),
    "+ channels last": Way(channels_last=True),
    "+ memory kept": Way(channels_last=True, keeps_memory=True),
    "+ optimizers": Way(channels_last=True, keeps_memory=True, one_pass=True),
    "+ bfloat16": Way(precision="bfloat16", channels_last=True, keeps_memory=True,
                      one_pass=True),
    "bfloat16 alone": Way(precision="bfloat16"),
}
COMPILED = {"+ compiled": Way("fused", "bfloat16", channels_last=True, compiled=True,
                              keeps_memory=True, one_pass=True)}


GROUPS = (("phi", "xi"), ("theta", "theta_T"))  # who is updated with whom in Algorithm 1


def group_gradients(model: CDLM, batch: DomainBatch, eps: Tensor, strength: float, group: int,
                    lean: bool = False) -> None:
    """Put the gradients for one of ``GROUPS`` into ``.grad``, by a pass as printed; ``lean``
    asks for these and no others."""
    objective = objectives(literal_losses(model, batch, eps, strength), model.config)[group]
    if lean:
        members = [learner for learner in model.learners() if learner.name in GROUPS[group]]
        set_gradients(objective,
                      [parameter for learner in members for parameter in learner.parameters])
    else:
        objective.backward()


def literal_step(trainer: Trainer, batch: DomainBatch, generator: torch.Generator,
                 lean: bool = False) -> None:
    """One iteration of Algorithm 1 with one inner iteration each: codes and images are made
    anew for the second update."""
    model = trainer.method
    for group, names in enumerate(GROUPS):
        for optimizer in trainer.optimizers.values():
            optimizer.zero_grad()
        eps = draw_noise(model, len(batch.x_s), generator)
        group_gradients(model, batch, eps, model.config.reach.reversal, group, lean)
        for name in names:
            trainer.optimizers[name].step()


def random_batch(count: int, size: int, generator: torch.Generator,
                 channels_last: bool = False) -> DomainBatch:
    """Random gray images (count, 1, size, size) in [-1, 1] and labels, on the generator's
    device."""
    order, device = (torch.channels_last if channels_last else torch.contiguous_format,
                     generator.device)
    x_s, x_t = (2 * torch.rand(count, 1, size, size, generator=generator, device=device) - 1
                for _ in range(2))
    labels = torch.randint(10, (count,), generator=generator, device=device)
    return DomainBatch(x_s.contiguous(memory_format=order), labels,
                       x_t.contiguous(memory_format=order))


def make_step(way: Way, width: int = 16, batch_size: int = 64, size: int = 28,
              device: str = "cpu") -> Callable[[], object]:
    """A function that makes one training step of a new model.

    Raises ValueError for unknown ways.
    """
    if (way.written not in ("fused", "literal", "lean")
        or (way.written != "fused" and way.precision != "float32")):
        raise ValueError(f"no step is written as {way.written!r} in {way.precision}")
    model = CDLM(CDLMConfig.of(width=width), Images(size=size)).to(device).train()
    if way.channels_last:
        model = model.to(memory_format=torch.channels_last)
    for network in (model.encoder, model.decoder, model.classifier) if way.compiled else ():
        network.compile()
    generator = torch.Generator(device).manual_seed(0)
    batch = random_batch(batch_size, size, generator, way.channels_last)
    trainer = Trainer(model, 1000, way.precision)
    for group in [group for optimizer in trainer.optimizers.values()
                  for group in optimizer.param_groups]:
        group["fused"] = way.one_pass or group.get("fused")
    if way.written == "fused":
        return lambda: trainer.step(batch, generator)
    return lambda: literal_step(trainer, batch, generator, way.written == "lean")


def way_gradients(way: Way, model: CDLM, batch: DomainBatch, eps: Tensor) -> dict[str, Tensor]:
    """The gradients that a way gives at the same parameters, by learner, each as one long
    vector."""
    groups = (None,) if way.written == "fused" else (0, 1)
    found = {}
    for group in groups:
        model.zero_grad()
        if group is None:
            with torch.autocast(eps.device.type, torch.bfloat16,
                                enabled=way.precision == "bfloat16"):
                objective, _ = model(batch, eps, Now(1.0))
            objective.backward()
        else:
            group_gradients(model, batch, eps, model.strength(1.0), group,
                            way.written == "lean")
        names = ([name for names in GROUPS for name in names]
                 if group is None else GROUPS[group])
        found |= {learner.name: torch.cat([p.grad.flatten() for p in learner.parameters])
                  for learner in model.learners() if learner.name in names}
    return found
