"""How many multiplications a step takes, counted by formula and by running it.

Generated from book/src/75_fast.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from cdlm.methods.cdlm import CDLM

__all__ = [
    "FlopCount",
    "Layer",
    "PASSES",
    "count_flops",
    "layer_flops",
    "layers_of",
    "network_flops",
    "step_flops",
]


# 75_fast: How much arithmetic there is

class Layer(NamedTuple):
    """What one layer with weights costs in a pass forward."""

    name: str
    flops: int          # multiplications and additions
    # what has to be moved if each number is moved once: what is read, the weights, what is
    # written
    numbers: int


def layer_flops(layer: nn.Module, x: Tensor, y: Tensor) -> int:
    """Multiplications and additions of a layer from ``x`` to ``y``; 0 for layers that are not
    linear maps."""
    if isinstance(layer, nn.ConvTranspose2d):
        return 2 * layer.weight.numel() * len(x) * x[0, 0].numel()
    if isinstance(layer, nn.Conv2d):
        return 2 * layer.weight.numel() * len(y) * y[0, 0].numel()
    return 2 * layer.weight.numel() * len(x) if isinstance(layer, nn.Linear) else 0


@torch.no_grad()
def layers_of(network: nn.Module, x: Tensor) -> list[Layer]:
    """Linear layers of a network in the order in which a batch ``x`` passes them."""
    found = []
    def note(name: str) -> Callable:
        def hook(layer: nn.Module, read: tuple[Tensor], written: Tensor) -> None:
            numbers = read[0].numel() + layer.weight.numel() + written.numel()
            found.append(Layer(name, layer_flops(layer, read[0], written), numbers))
        return hook
    hooks = [layer.register_forward_hook(note(name)) for name, layer in network.named_modules()
             if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))]
    network(x)
    for hook in hooks:
        hook.remove()
    return found


def network_flops(model: CDLM, batch_size: int) -> dict[str, tuple[int, int]]:
    """FLOPs of a pass of ``batch_size`` images forward through each network, and those of its
    first layer."""
    x, there = model.images, next(model.parameters())
    image = there.new_zeros(2, x.channels, x.size, x.size)  # two, and then scaled
    code = there.new_zeros(2, model.config.networks.latent)
    read = {"encoder": image, "decoder": code, "classifier": image, "discriminator": code}
    counts = {name: [layer.flops * batch_size // 2
                     for layer in layers_of(getattr(model, name), seen)]
              for name, seen in read.items()}
    return {name: (sum(found), found[0]) for name, found in counts.items()}


PASSES = {
    "fused": {"encoder": (2, 2, 2, 0), "decoder": (4, 4, 6, 2), "classifier": (3, 3, 3, 3),
              "discriminator": (2, 2, 2, 2)},
    "lean": {"encoder": (4, 2, 2, 0), "decoder": (8, 4, 6, 2), "classifier": (6, 3, 5, 4),
             "discriminator": (4, 2, 2, 2)},
    "literal": {"encoder": (4, 4, 4, 0), "decoder": (8, 6, 6, 6), "classifier": (6, 6, 6, 4),
                "discriminator": (4, 2, 2, 2)},
}


def step_flops(model: CDLM, batch_size: int, written: str = "fused") -> int:
    """FLOPs of the linear layers in one step of the default config, from the shapes of layers
    and ``PASSES``."""
    total = 0
    for name, (whole, first) in network_flops(model, batch_size).items():
        forward, weights, data, through_first = PASSES[written][name]
        total += (forward + weights + data) * whole - (data - through_first) * first
    return total


class FlopCount(TorchDispatchMode):
    """Counts the multiplications and additions of what is done inside of it, by PyTorch's own
    formulas."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Callable, types: tuple, args: tuple = (),
                           kwargs: dict | None = None) -> object:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        self.total += formula(*args, **(kwargs or {}), out_val=out) if formula else 0
        return out


def count_flops(work: Callable[[], object]) -> int:
    """Multiplications and additions of convolutions and matrix products that ``work`` does."""
    with FlopCount() as counter:
        work()
    return counter.total
