"""Who is reached by what: gradient reversal, a seam between two networks, gradients for some parameters only.

Generated from book/src/35_adversary.md, book/src/40_cdlm.md, book/src/72_algorithm.md by `make
sync`: edit there, not here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = [
    "GradientReversal",
    "Reach",
    "reversal_strength",
    "reverse_gradient",
    "seam",
    "set_gradients",
]


# 35_adversary: The sign is turned around

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
    """``x`` itself, whose gradient comes back reversed and scaled by ``strength``
    (Ganin et al., 2016)."""
    return GradientReversal.apply(x, strength)


# 35_adversary: A slow start

def reversal_strength(progress: float, maximum: float = 1.0) -> float:
    """Warm-up of the reversal: 0 at ``progress`` 0, close to ``maximum`` from about a half of
    training on."""
    return maximum * (2 / (1 + math.exp(-10 * progress)) - 1)


# 40_cdlm: Who is updated by what

def set_gradients(objective: Tensor, parameters: Sequence[nn.Parameter],
                  retain_graph: bool = False) -> None:
    """Put d ``objective`` / d ``parameters`` into the ``.grad`` of these parameters, and of no
    others."""
    gradients = torch.autograd.grad(objective, parameters, retain_graph=retain_graph)
    for parameter, gradient in zip(parameters, gradients):
        parameter.grad = gradient


# 72_algorithm: Three ways out

class Reach(NamedTuple):
    """Three times the same output of a network; what is computed from each of them reaches
    someone else."""

    both: Tensor        # the gradient goes into the network's parameters and on to its input
    input: Tensor       # to the input only
    network: Tensor     # into the parameters only


# 72_algorithm: One pass: a seam between two networks

def added(*gradients: Tensor | None) -> Tensor | None:
    """Sum of the gradients that arrived; None if none did."""
    there = [g for g in gradients if g is not None]
    return sum(there[1:], there[0]) if there else None


def input_gradient(first: Tensor, output: Tensor, gradient: Tensor,
                   retain_graph: bool) -> Tensor:
    """Gradient of all N rows of the input from that of all N rows of the output: by ``first``,
    which gave ``output``, and zero for the rows after it."""
    n = len(first)
    inner, = torch.autograd.grad(output, first, gradient[:n], retain_graph=retain_graph)
    return torch.cat([inner, inner.new_zeros(len(gradient) - n, *inner.shape[1:])])


class Seam(torch.autograd.Function):
    """One pass forward through a network, two gradients back: one for its input, another for
    its parameters."""

    @staticmethod
    def forward(ctx, network: nn.Module, reaching: int, z: Tensor,
                *parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            first, rest = z[:reaching].detach().requires_grad_(), z[reaching:].detach()
            parts = [network(part) for part in (first, rest) if len(part)]
        ctx.first, ctx.parts, ctx.parameters = first, parts, parameters
        ctx.set_materialize_grads(False)
        images = torch.cat([part.detach() for part in parts])
        return images, images.clone(), images.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, both: Tensor | None, to_input: Tensor | None,
                 to_network: Tensor | None) -> tuple[Tensor | None, ...]:
        reaching, after = added(both, to_input), added(both, to_network)
        n, gradient = len(ctx.first), None
        if reaching is not None and n:
            gradient = input_gradient(ctx.first, ctx.parts[0], reaching, after is not None)
        if after is None:
            return None, None, gradient, *(None for _ in ctx.parameters)
        cut = [n, len(after) - n] if 0 < n < len(after) else [len(after)]
        return None, None, gradient, *torch.autograd.grad(ctx.parts, ctx.parameters,
                                                          after.split(cut), allow_unused=True)


def seam(network: nn.Module, z: Tensor, reaching: int) -> Reach:
    """Output of ``network`` for ``z`` (N, ...) three times, with a gradient to the input for
    the first ``reaching`` rows only.

    Every row goes through the network once. What comes back cannot be differentiated again.
    """
    return Reach(*Seam.apply(network, reaching, z, *network.parameters()))
