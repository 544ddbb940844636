"""What a method tells the engine: who learns, from which objective.

Generated from book/src/12_engine.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cdlm.data.batches import DomainBatch
from cdlm.settings import Images, Settings

__all__ = [
    "Learner",
    "Method",
    "Now",
    "Round",
    "Trainable",
    "constant",
    "draw_noise",
    "linear_decay",
]


# 12_engine: Who learns

def constant(progress: float) -> float:
    """A learning rate that stays as it is; ``progress`` is the share of training done, in
    [0, 1]."""
    return 1.0


def linear_decay(progress: float) -> float:
    """A learning rate that falls linearly to a thousandth of what it was."""
    return 1 - 0.999 * progress


@dataclass(frozen=True)
class Learner:
    """Parameters that learn together: by which optimizer, how fast, and by which schedule."""

    name: str
    parameters: tuple[nn.Parameter, ...]
    lr: float
    optimizer: str = "adam"                             # "adam" or "sgd"
    momentum: float = 0.9                               # of "sgd"
    # factor of ``lr`` at a share of training done
    schedule: Callable[[float], float] = constant
    weight_decay: float = 0.0


# 12_engine: Who moves together

@dataclass(frozen=True)
class Round:
    """One pass forward and back within an iteration, and the names of those who learn."""

    name: str
    learners: tuple[str, ...]


class Now(NamedTuple):
    """Where a training stands: the share that is done, in [0, 1], and the round's name."""

    progress: float
    round: str = "all"


# 12_engine: What they descend

class Trainable(nn.Module):
    """What the engine asks: who learns, in which rounds, and what each round descends.

    ``forward`` returns a scalar whose gradient is, for every parameter that learns in this
    round, that of its own objective, together with the losses by name.
    """

    config: Settings | None = None      # None for a method without any
    images: Images | None = None        # what it was made for
    noise = (0, 0)  # standard normal vectors for a pair of images, their length
    sampler = "uniform"                 # how images are drawn: "uniform" or "class-balanced"
    label_every: int | str = 0  # steps between two calls of ``relabel``, or "epoch"; 0: none

    def learners(self) -> list[Learner]:
        """Who learns, and how."""
        raise NotImplementedError

    def rounds(self) -> tuple[Round, ...]:
        """The rounds of an iteration, in their order: by default one, from which all learn."""
        return (Round("all", tuple(learner.name for learner in self.learners())),)

    def forward(self, batch: DomainBatch, eps: Tensor,
                now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        """Objective and losses, all scalars; ``eps`` is (count, batch, length) as ``noise``
        says."""
        raise NotImplementedError

    def prepare(self, source_images: Tensor, target_images: Tensor) -> None:
        """Look at all training images, bytes (N, C, H, W), once before training starts."""

    def relabel(self, target_images: Tensor) -> Tensor:
        """Own labels (N,) of all target training images, bytes (N, C, H, W); -1 means none."""
        raise NotImplementedError


class Method(Trainable):
    """A method that can be trained, measured and stored by its name."""

    paths = ("x_t",)                # what its classifier reads: target images, or drawings

    @property
    def draws(self) -> bool:
        """Whether it draws images, and so has codes and several paths."""
        return len(self.paths) > 1

    @classmethod
    def needs_second_view(cls, config: Settings) -> bool:
        """Whether, by these settings, each target image has to come twice, once changed
        strongly."""
        return False

    def logits(self, x: Tensor) -> Tensor:
        """Class logits (B, classes) of images (B, C, H, W) in [-1, 1]."""
        raise NotImplementedError

    def features(self, x: Tensor) -> Tensor:
        """Features (B, ...) of images (B, C, H, W) in [-1, 1], to compare domains in."""
        raise NotImplementedError

    def read(self, x: Tensor) -> Tensor:
        """Class logits (B, classes) of images from any of the ``paths``, as they are."""
        return self.logits(x)

    def translate(self, x: Tensor) -> Tensor:
        """Source-like drawings of images (B, C, H, W). Raises ValueError if it draws none."""
        raise ValueError(f"{type(self).__name__} draws no images")


# 12_engine: The engine

def draw_noise(method: Trainable, batch_size: int, generator: torch.Generator,
               dtype: torch.dtype = torch.float32) -> Tensor:
    """The noise that a method needs for a batch, (count, batch_size, length), on the
    generator's device."""
    count, length = method.noise
    return torch.randn(count, batch_size, length, generator=generator, device=generator.device,
                       dtype=dtype)
