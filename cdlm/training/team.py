"""Several processes that train one model: which slice is whose, and how they agree.

Generated from book/src/73_long_runs.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Team", "team_of"]


# 73_long_runs: Several processes

@dataclass(frozen=True)
class Team:
    """The processes that train one model: how many there are, which of them this one is, and
    its device."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    def share(self, x: Tensor, dim: int = 0) -> Tensor:
        """The part of ``x`` that this process works on: its slice along ``dim``."""
        return x.chunk(self.size, dim)[self.rank]

    def mean(self, values: Tensor) -> Tensor:
        """The mean of ``values`` over all processes, the same in each of them."""
        if self.size > 1:
            torch.distributed.all_reduce(values)
        return values / self.size

    def least(self, values: Tensor) -> Tensor:
        """The least of ``values`` over all processes, the same in each of them."""
        if self.size > 1:
            torch.distributed.all_reduce(values, torch.distributed.ReduceOp.MIN)
        return values

    def from_first(self, values: Tensor) -> Tensor:
        """The ``values`` of the first process, in each of them."""
        if self.size > 1:
            torch.distributed.broadcast(values, 0)
        return values

    def all_agree(self, opinion: bool) -> bool:
        """Whether ``opinion`` is true in every process.

        All have to ask, or the others wait forever.
        """
        return (bool(self.least(torch.tensor(float(opinion), device=self.device)))
                if self.size > 1 else opinion)


@contextmanager
def team_of(device: str) -> Iterator[Team]:
    """The team that torchrun has started this process in, or a team of one.

    On "cuda" each process takes a GPU of its own.
    """
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Team(device=device)
        return
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', rank)}"
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Team(rank, size, device)
    finally:
        torch.distributed.destroy_process_group()
