"""What a method tells the engine: who learns, from which objective.

Generated from book/src/72_algorithm.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cdlm.data.batches import DomainBatch

__all__ = ["Learner", "Method", "constant", "draw_noise", "linear_decay"]


# 72_algorithm: What a method tells, and what an engine does with it

def constant(progress: float) -> float:
    """A learning rate that stays as it is; ``progress`` is the share of training done, in [0, 1]."""
    return 1.0


def linear_decay(progress: float) -> float:
    """A learning rate that falls linearly to a thousandth of what it was."""
    return 1 - 0.999 * progress


# 72_algorithm: What a method tells, and what an engine does with it

@dataclass(frozen=True)
class Learner:
    """Parameters that learn together: by which optimizer, how fast, and by which schedule."""

    name: str
    parameters: tuple[nn.Parameter, ...]
    lr: float
    optimizer: str = "adam"                             # "adam" or "sgd"
    momentum: float = 0.9                               # of "sgd"
    schedule: Callable[[float], float] = constant       # factor of ``lr`` at a share of training done


# 72_algorithm: What a method tells, and what an engine does with it

class Method(nn.Module):
    """What all methods share: networks that know who learns, and one objective by which everybody does.

    ``forward`` takes a batch of both domains, noise, and the share of training done, and returns a scalar whose gradient is, for
    every parameter, that of its own objective, together with the losses by name. ``logits`` maps images to class logits.
    """

    noise = (0, 0)          # how many standard normal vectors an iteration needs for each pair of images, and their length

    def learners(self) -> list[Learner]:
        """Who learns, and how."""
        raise NotImplementedError

    def forward(self, batch: DomainBatch, eps: Tensor, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Objective and losses, all scalars; ``eps`` is (count, batch, length) as ``noise`` says."""
        raise NotImplementedError

    def rounds(self) -> tuple[tuple[str, ...], ...]:
        """Names of the learners that are updated together, round after round, in one iteration: by default all at once."""
        return (tuple(learner.name for learner in self.learners()),)

    def prepare(self, source_images: Tensor, target_images: Tensor) -> None:
        """Look at all training images of both domains, bytes (N, C, H, W), once before training starts."""

    def logits(self, x: Tensor) -> Tensor:
        """Class logits (B, classes) of images (B, C, H, W) in [-1, 1]."""
        raise NotImplementedError


# 72_algorithm: What a method tells, and what an engine does with it

def draw_noise(method: Method, batch_size: int, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """The noise that a method needs for a batch, (count, batch_size, length), on the generator's device."""
    count, length = method.noise
    return torch.randn(count, batch_size, length, generator=generator, device=generator.device, dtype=dtype)
