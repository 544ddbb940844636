"""What a training needs at a width: parameters, memory, operations, launches.

Generated from book/src/75b_full_size.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cdlm.methods.base import Now
from cdlm.methods.cdlm import CDLM
from cdlm.speed.arithmetic import step_flops
from cdlm.speed.ways import random_batch

__all__ = ["Kept", "Launches", "Size", "count_launches", "kept_bytes", "size_of"]


# 75b_full_size: Counting memory

class Kept:
    """Counts the bytes that a computation keeps for its pass back, each piece of memory once,
    parameters left out."""

    def __init__(self, parameters: tuple[Tensor, ...]) -> None:
        self.pieces: dict[int, int] = {}
        self.holding: list[Tensor] = []      # so that no address is given out twice
        self.parameters = {p.untyped_storage().data_ptr() for p in parameters}
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.note, lambda kept: kept)

    def note(self, kept: Tensor) -> Tensor:
        """Count one tensor, and pass it on."""
        storage = kept.untyped_storage()
        if storage.data_ptr() not in self.parameters:
            self.pieces[storage.data_ptr()] = storage.nbytes()
            self.holding.append(kept)
        return kept

    @property
    def total(self) -> int:
        """Bytes kept so far."""
        return sum(self.pieces.values())


def kept_bytes(model: CDLM, pairs: int, precision: str = "float32") -> int:
    """Bytes that CDLM's objective on ``pairs`` pairs of images keeps for the pass back.

    ``precision`` is "float32", or "bfloat16" by autocast.
    """
    batch = random_batch(pairs, model.images.size, torch.Generator().manual_seed(0))
    count, length = model.noise
    eps = torch.zeros(count, pairs, length)
    kept = Kept(tuple(model.parameters()))
    with kept.hooks, torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        model(batch, eps, Now(1.0))
    return kept.total


@dataclass(frozen=True)
class Size:
    """What one training of CDLM needs at a width, on so many pairs of images a step."""

    width: int
    parameters: int     # numbers that are trained
    kept: int           # bytes that a step keeps for its pass back
    flops: int          # multiplications and additions of a step

    @property
    def memory(self) -> int:
        """Of parameters, gradients and two moments in float32, and what is kept, in bytes."""
        return 16 * self.parameters + self.kept


def size_of(model: CDLM, pairs: int = 64, precision: str = "float32") -> Size:
    """What training a model needs; memory is counted on four pairs, and is in proportion."""
    return Size(model.config.networks.width,
                sum(p.numel() for p in model.parameters() if p.requires_grad),
                kept_bytes(model, 4, precision) * pairs // 4, step_flops(model, pairs))


# 75b_full_size: When a card is idle

class Launches(TorchDispatchMode):
    """Counts operations on tensors; on a card most of them are one kernel, and views none."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Callable, types: tuple, args: tuple = (),
                           kwargs: dict | None = None) -> object:
        self.total += not func.is_view
        return func(*args, **(kwargs or {}))


def count_launches(work: Callable[[], object]) -> int:
    """Operations, views left out, that ``work`` hands to a device."""
    with Launches() as counted:
        work()
    return counted.total
