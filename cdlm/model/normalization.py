"""Normalization that knows its domain, or takes a batch in chunks.

Generated from book/src/70_networks.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ChunkedBatchNorm", "DomainBatchNorm", "facing", "set_chunks", "standardized"]


# 70_networks: Normalization and company

class ChunkedBatchNorm(nn.BatchNorm2d):
    """Batch normalization of (B, C, H, W) that takes a batch for ``chunks`` batches, one after
    the other.

    In training each of the equal parts along the first dimension is normalized by its own
    statistics, and the running ones are updated part by part: the same as separate calls. In
    evaluation there is no difference.
    """

    chunks = 1

    def forward(self, x: Tensor) -> Tensor:
        """Normalize.

        Raises ValueError in training if the batch cannot be cut into ``chunks`` equal parts.
        """
        if not self.training or self.chunks == 1:
            return super().forward(x)
        if len(x) % self.chunks:
            raise ValueError(
                f"a batch of {len(x)} cannot be cut into {self.chunks} equal parts")
        normalize_part = super().forward
        return torch.cat([normalize_part(part) for part in x.chunk(self.chunks)])


def set_chunks(network: nn.Module, chunks: int) -> None:
    """Tell all batch normalizations of a network that its next batches are ``chunks`` batches
    in one.

    Networks without any are left as they are. Raises ValueError for less than one.
    """
    if chunks < 1:
        raise ValueError(f"a batch cannot be cut into {chunks} parts")
    for module in network.modules():
        if isinstance(module, ChunkedBatchNorm):
            module.chunks = chunks


class DomainBatchNorm(nn.Module):
    """Batch normalization of (B, C, H, W) with statistics of its own for each domain, and one
    scale and shift for both.

    ``domain`` says whose images come: "source", "target", or "both" for a batch whose first
    half is the source's; with "guest", images that are normalized by their own statistics, in
    training too, and leave no trace in those kept for tests.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.source, self.target = (nn.BatchNorm2d(channels, affine=False) for _ in range(2))
        self.weight, self.bias = (nn.Parameter(torch.ones(channels)),
                                  nn.Parameter(torch.zeros(channels)))
        self.domain = "target"

    def forward(self, x: Tensor) -> Tensor:
        """Normalize. Raises ValueError for a batch of both that has no two halves."""
        if self.domain == "both":
            if len(x) % 2:
                raise ValueError(
                    f"a batch of {len(x)} cannot be one half source, one half target")
            x_s, x_t = x.chunk(2)
            x = torch.cat([self.source(x_s), self.target(x_t)])
        elif self.domain == "guest":
            x = F.batch_norm(x, None, None, training=True)
        else:
            x = (self.source if self.domain == "source" else self.target)(x)
        weight, bias = (value.to(x.dtype)[:, None, None] for value in (self.weight, self.bias))
        return torch.addcmul(bias, x, weight)


@contextmanager
def facing(network: nn.Module, domain: str) -> Iterator[None]:
    """Within the block, ``network`` sees images of a domain: "source", "target", or "both",
    the source's first, or "guest".

    Only batch normalization by domain minds; see ``DomainBatchNorm``. Raises ValueError for
    other words.
    """
    if domain not in ("source", "target", "both", "guest"):
        raise ValueError(
            f'domain is {domain!r}; it must be "source", "target", "both" or "guest"')
    layers = [module for module in network.modules() if isinstance(module, DomainBatchNorm)]
    before = [layer.domain for layer in layers]
    for layer in layers:
        layer.domain = domain
    try:
        yield
    finally:
        for layer, previous in zip(layers, before):
            layer.domain = previous


def standardized(x: Tensor) -> Tensor:
    """Images (B, C, H, W), each with mean 0 and deviation 1 over its channels and pixels; flat
    ones become 0."""
    deviation, mean = torch.std_mean(x, dim=(1, 2, 3), keepdim=True)
    return (x - mean) / deviation.clamp_min(1e-3)
