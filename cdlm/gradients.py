"""Gradient reversal: the identity forward, a change of sign backward.

Generated from book/src/40_cdlm.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["GradientReversal", "reversal_strength", "reverse_gradient", "set_gradients"]


# 40_cdlm: The discriminator, and how to learn against it

class GradientReversal(torch.autograd.Function):
    """The identity forward; backward, the gradient times ``-strength``."""

    @staticmethod
    def forward(ctx, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None


def reverse_gradient(x: Tensor, strength: float = 1.0) -> Tensor:
    """``x`` itself, whose gradient comes back reversed and scaled by ``strength`` (Ganin et al., 2016)."""
    return GradientReversal.apply(x, strength)


# 40_cdlm: The discriminator, and how to learn against it

def reversal_strength(progress: float, maximum: float = 1.0) -> float:
    """Warm-up of the reversal: 0 at ``progress`` 0, close to ``maximum`` from about a half of training on."""
    return maximum * (2 / (1 + math.exp(-10 * progress)) - 1)


# 40_cdlm: Who is updated by what

def set_gradients(objective: Tensor, parameters: Sequence[nn.Parameter], retain_graph: bool = False) -> None:
    """Put d ``objective`` / d ``parameters`` into the ``.grad`` of these parameters, and of no others."""
    gradients = torch.autograd.grad(objective, parameters, retain_graph=retain_graph)
    for parameter, gradient in zip(parameters, gradients):
        parameter.grad = gradient
