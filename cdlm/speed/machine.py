"""What a machine could do, and where the time of a step goes.

Generated from book/src/75_fast.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import ctypes
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity

from cdlm.methods.cdlm import CDLM, CDLMConfig
from cdlm.speed.arithmetic import layer_flops
from cdlm.speed.ways import random_batch

__all__ = [
    "TIME_GROUPS",
    "copy_work",
    "interleaved",
    "keep_memory",
    "layer_work",
    "load_of_machine",
    "matrix_work",
    "measure_layers",
    "noted_inputs",
    "peak_memory",
    "quiet_profile",
    "time_by_group",
    "time_group",
    "wait",
]


# 75_fast: Where the time goes

TIME_GROUPS = {                     # by the first word that occurs in an operation's name
               "convolutions, backward": ("convolution_backward",),
               "convolutions, forward": ("conv",), "normalization": ("norm",),
               "activations": ("relu", "tanh", "sigmoid", "threshold"),
               "matrix products": ("mm", "linear"),
               "optimizers": ("optimizer", "addcmul", "addcdiv", "lerp", "sqrt"),
               "copies and casts": ("copy", "cat", "clone")}


def quiet_profile(**how: object) -> torch.profiler.profile:
    """PyTorch's profiler, whose library otherwise writes a log of its own to stderr."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    return torch.profiler.profile(**how)


def time_group(operation: str) -> str:
    """The group that an operation of the profiler belongs to, or "rest"."""
    return next((group for group, words in TIME_GROUPS.items()
                 if any(word in operation.lower() for word in words)), "rest")


def time_by_group(work: Callable[[], object], rounds: int = 3,
                  device: str = "cpu") -> dict[str, float]:
    """Milliseconds that ``work`` spends in each group of operations, the least over some
    rounds, after one to warm up."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * device.startswith("cuda")
    found = []
    work()
    for _ in range(rounds):
        with quiet_profile(activities=activities) as recorded:
            work()
        found.append(dict.fromkeys([*TIME_GROUPS, "rest"], 0.0))
        for event in (row for row in recorded.key_averages()
                      if row.device_type == torch.autograd.DeviceType.CPU):
            on_device = (event.self_device_time_total
                         if device.startswith("cuda") else event.self_cpu_time_total)
            found[-1][time_group(event.key)] += on_device / 1000
    return {group: round(min(row[group] for row in found), 3) for group in found[0]}


# 75_fast: What the machine could do

def wait(device: str) -> None:
    """Return when the device has done all that it was given to do."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def matrix_work(precision: str, device: str, size: int = 2048) -> tuple[Callable[[], object],
                                                                        int]:
    """A product of two random matrices (size, size) to be timed, and its FLOPs."""
    x = torch.rand(size, size, device=device).to(getattr(torch, precision))
    return (lambda: x @ x), 2 * size**3


def copy_work(device: str, size: int = 2**26) -> tuple[Callable[[], object], int]:
    """A copy of ``size`` bytes to be timed, and how many bytes are read and written by it."""
    there, back = (torch.ones(size // 4, device=device) for _ in range(2))
    return (lambda: back.copy_(there)), 2 * size


def interleaved(works: Mapping[str, Callable[[], object]], rounds: int, device: str = "cpu",
                before: Callable[[str], None] = lambda name: None) -> dict[str, list[float]]:
    """Seconds of each work in each round; ``before(name)`` is called, and the work done once,
    before it is timed."""
    seconds = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            before(name)
            work()
            wait(device)
            start = time.perf_counter()
            work()
            wait(device)
            seconds[name].append(time.perf_counter() - start)
    return seconds


@contextmanager
def noted_inputs(networks: Mapping[str, nn.Module]) -> Iterator[dict[str, tuple[nn.Module,
                                                                                Tensor]]]:
    """While the block runs, collect each convolution and linear map of ``networks`` with what
    it has last read."""
    found, hooks = {}, []
    for label, network in networks.items():
        for name, layer in network.named_modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
                def note(layer: nn.Module, read: tuple[Tensor], written: Tensor,
                         key: str = f"{label}.{name}") -> None:
                    found[key] = (layer, read[0].detach())
                hooks.append(layer.register_forward_hook(note))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def layer_work(layer: nn.Module, x: Tensor, precision: str) -> Callable[[], object]:
    """A pass of ``x`` (B, ...) through a layer, forward and backward to its weights and to
    ``x``, to be timed."""
    x = x.clone().requires_grad_()
    def work() -> None:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            y = layer(x)
        torch.autograd.grad(y, (x, layer.weight), y.detach())
    return work


def measure_layers(width: int, batch_size: int, rounds: int,
                   device: str = "cpu") -> list[dict[str, object]]:
    """Time, FLOPs and least traffic of each layer of encoder, decoder and classifier, forward
    and backward, two precisions.

    The traffic is that of eq. ``t >= max(...)``: each number is moved once in each of the
    three products of a layer.
    """
    model = CDLM(CDLMConfig.of(width=width)).to(device).to(memory_format=torch.channels_last)
    networks = {name: getattr(model, name) for name in ("encoder", "decoder", "classifier")}
    x, z = (random_batch(batch_size, 28, torch.Generator(device), True).x_s,
            torch.randn(batch_size, 32, device=device))
    with torch.no_grad(), noted_inputs(networks) as found:
        model.encoder(x), model.decoder(z), model.classifier(x)
    works, costs = {}, {}
    for name, (layer, read) in found.items():
        written = layer(read)
        numbers = read.numel() + layer.weight.numel() + written.numel()
        for precision, size in (("float32", 4), ("bfloat16", 2)):
            works[f"{name} {precision}"] = layer_work(layer, read, precision)
            costs[f"{name} {precision}"] = (3 * layer_flops(layer, read, written),
                                            3 * size * numbers)
    taken = interleaved(works, rounds, device)
    return [{"layer": name.split()[0], "precision": name.split()[1],
             "seconds": round(min(seconds), 7), "flops": costs[name][0],
             "bytes": costs[name][1]} for name, seconds in taken.items()]


# 75_fast: The ladder

def keep_memory(keep: bool = True) -> bool:
    """Tell the allocator of glibc to keep freed memory for the process, or to hand large
    blocks back; whether it obeys.

    The same for a whole process, without this call: MALLOC_MMAP_THRESHOLD_=2147483647
    MALLOC_TRIM_THRESHOLD_=2147483647 in its environment. With ``keep=False`` the thresholds
    are the largest that glibc itself would ever arrive at. Nothing happens, and the answer is
    False, where the C library is another one.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    from_system, trim = (2**31 - 1, 2**31 - 1) if keep else (2**25, 2**26)      # bytes
    library = ctypes.CDLL(None)
    # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
    return bool(library.mallopt(-3, from_system) and library.mallopt(-1, trim))


# 75_fast: Larger batches, networks, images

def peak_memory(work: Callable[[], object], device: str = "cpu") -> int:
    """Bytes by which the tensors of one call of ``work`` exceed, at their most, what was there
    before.

    On CUDA by PyTorch's own count; elsewhere by the profiler's, which sees all that PyTorch's
    allocator hands out. What a library allocates for itself inside an operation is not in it,
    nor is what the process needs besides tensors.
    """
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    with quiet_profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    events = [event for event in recorded.profiler.kineto_results.events()
              if event.name() == "[memory]"]
    most = total = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        total += event.nbytes()
        most = max(most, total)
    return most


# 75_fast: All of it in one command

def load_of_machine() -> float:
    """How many programs wanted to run on this machine in the last minute, on average; NaN
    where nobody counts."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
