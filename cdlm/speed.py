"""What a training step costs, and why.

Generated from book/src/73_fast.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.profiler import ProfilerActivity
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import flop_registry

from cdlm.data.batches import DomainBatch, draw_pair, normalize
from cdlm.data.domains import Domain, Split
from cdlm.evaluation import accuracy, predict
from cdlm.gradients import reversal_strength, reverse_gradient, set_gradients
from cdlm.methods.base import Method, Now, draw_noise
from cdlm.methods.cdlm import CDLM, CDLMConfig, literal_losses, objectives
from cdlm.methods.dann import DANN
from cdlm.runs import provenance
from cdlm.settings import Images
from cdlm.training import Trainer

__all__ = [
    "COMPILED",
    "FlopCount",
    "GROUPS",
    "GROWTH",
    "LADDER",
    "Layer",
    "PASSES",
    "QUICK",
    "RACERS",
    "RaceOver",
    "Readout",
    "ReversedGuess",
    "Stopwatch",
    "TIME_GROUPS",
    "Way",
    "copy_work",
    "count_flops",
    "dann_optimizer",
    "fractions",
    "group_gradients",
    "interleaved",
    "keep_memory",
    "layer_flops",
    "layer_work",
    "layers_of",
    "literal_step",
    "load_of_machine",
    "make_step",
    "matrix_work",
    "measure_growth",
    "measure_ladder",
    "measure_ladders",
    "measure_layers",
    "measure_race",
    "measure_step",
    "network_flops",
    "noted_inputs",
    "peak_memory",
    "quiet_profile",
    "race_line",
    "race_ours",
    "race_pytorch_adapt",
    "race_skada",
    "random_batch",
    "step_flops",
    "step_table",
    "time_by_group",
    "time_group",
    "wait",
    "way_gradients",
]


# 73_fast: One update in many ways

@dataclass(frozen=True)
class Way:
    """One way to make a training step; all ways make the same update, but for rounding and noise."""

    written: str = "fused"              # "fused" (one pass), "literal" (Algorithm 1 as printed) or "lean"
    precision: str = "float32"          # or "bfloat16", by autocast
    channels_last: bool = False         # order of images in memory: channels beside each other, or rows
    compiled: bool = False              # whether the three networks are compiled
    keeps_memory: bool = False          # whether freed memory stays with the process
    one_pass: bool = False              # whether optimizers update a parameter in one pass over memory ("fused" in PyTorch)


LADDER = {
    "literal": Way("literal"),
    "literal, lean": Way("lean"),
    "fused": Way(),
    "+ channels last": Way(channels_last=True),
    "+ memory kept": Way(channels_last=True, keeps_memory=True),
    "+ optimizers": Way(channels_last=True, keeps_memory=True, one_pass=True),
    "+ bfloat16": Way(precision="bfloat16", channels_last=True, keeps_memory=True, one_pass=True),
    "bfloat16 alone": Way(precision="bfloat16"),
}
COMPILED = {"+ compiled": Way("fused", "bfloat16", channels_last=True, compiled=True, keeps_memory=True, one_pass=True)}


GROUPS = (("phi", "xi"), ("theta", "theta_T"))          # who is updated with whom in Algorithm 1


def group_gradients(model: CDLM, batch: DomainBatch, eps: Tensor, strength: float, group: int, lean: bool = False) -> None:
    """Put the gradients for one of ``GROUPS`` into ``.grad``, by a pass as printed; ``lean`` asks for these and no others."""
    objective = objectives(literal_losses(model, batch, eps, strength), model.config)[group]
    if lean:
        members = [learner for learner in model.learners() if learner.name in GROUPS[group]]
        set_gradients(objective, [parameter for learner in members for parameter in learner.parameters])
    else:
        objective.backward()


def literal_step(trainer: Trainer, batch: DomainBatch, generator: torch.Generator, lean: bool = False) -> None:
    """One iteration of Algorithm 1 with one inner iteration each: codes and images are made anew for the second update."""
    model = trainer.method
    for group, names in enumerate(GROUPS):
        for optimizer in trainer.optimizers.values():
            optimizer.zero_grad()
        eps = draw_noise(model, len(batch.x_s), generator)
        group_gradients(model, batch, eps, model.config.reach.reversal, group, lean)
        for name in names:
            trainer.optimizers[name].step()


def random_batch(count: int, size: int, generator: torch.Generator, channels_last: bool = False) -> DomainBatch:
    """Random gray images (count, 1, size, size) in [-1, 1] and labels, on the generator's device."""
    order, device = torch.channels_last if channels_last else torch.contiguous_format, generator.device
    x_s, x_t = (2 * torch.rand(count, 1, size, size, generator=generator, device=device) - 1 for _ in range(2))
    labels = torch.randint(10, (count,), generator=generator, device=device)
    return DomainBatch(x_s.contiguous(memory_format=order), labels, x_t.contiguous(memory_format=order))


def make_step(way: Way, width: int = 16, batch_size: int = 64, size: int = 28, device: str = "cpu") -> Callable[[], object]:
    """A function that makes one training step of a new model. Raises ValueError for unknown ways."""
    if way.written not in ("fused", "literal", "lean") or (way.written != "fused" and way.precision != "float32"):
        raise ValueError(f"no step is written as {way.written!r} in {way.precision}")
    model = CDLM(CDLMConfig.of(width=width), Images(size=size)).to(device).train()
    if way.channels_last:
        model = model.to(memory_format=torch.channels_last)
    for network in (model.encoder, model.decoder, model.classifier) if way.compiled else ():
        network.compile()
    generator = torch.Generator(device).manual_seed(0)
    batch = random_batch(batch_size, size, generator, way.channels_last)
    trainer = Trainer(model, 1000, way.precision)
    for group in [group for optimizer in trainer.optimizers.values() for group in optimizer.param_groups]:
        group["fused"] = way.one_pass or group.get("fused")
    if way.written == "fused":
        return lambda: trainer.step(batch, generator)
    return lambda: literal_step(trainer, batch, generator, way.written == "lean")


def way_gradients(way: Way, model: CDLM, batch: DomainBatch, eps: Tensor) -> dict[str, Tensor]:
    """The gradients that a way gives at the same parameters, by learner, each as one long vector."""
    groups = (None,) if way.written == "fused" else (0, 1)
    found = {}
    for group in groups:
        model.zero_grad()
        if group is None:
            with torch.autocast(eps.device.type, torch.bfloat16, enabled=way.precision == "bfloat16"):
                objective, _ = model(batch, eps, Now(1.0))
            objective.backward()
        else:
            group_gradients(model, batch, eps, model.strength(1.0), group, way.written == "lean")
        names = [name for names in GROUPS for name in names] if group is None else GROUPS[group]
        found |= {learner.name: torch.cat([p.grad.flatten() for p in learner.parameters])
                  for learner in model.learners() if learner.name in names}
    return found


# 73_fast: Where the time goes

TIME_GROUPS = {                     # by the first word that occurs in an operation's name
    "convolutions, backward": ("convolution_backward",), "convolutions, forward": ("conv",), "normalization": ("norm",),
    "activations": ("relu", "tanh", "sigmoid", "threshold"), "matrix products": ("mm", "linear"),
    "optimizers": ("optimizer", "addcmul", "addcdiv", "lerp", "sqrt"), "copies and casts": ("copy", "cat", "clone"),
}


def quiet_profile(**how: object) -> torch.profiler.profile:
    """PyTorch's profiler, whose library otherwise writes a log of its own to stderr."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    return torch.profiler.profile(**how)


def time_group(operation: str) -> str:
    """The group that an operation of the profiler belongs to, or "rest"."""
    return next((group for group, words in TIME_GROUPS.items() if any(word in operation.lower() for word in words)), "rest")


def time_by_group(work: Callable[[], object], rounds: int = 3, device: str = "cpu") -> dict[str, float]:
    """Milliseconds that ``work`` spends in each group of operations, the least over some rounds, after one to warm up."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * device.startswith("cuda")
    found = []
    work()
    for _ in range(rounds):
        with quiet_profile(activities=activities) as recorded:
            work()
        found.append(dict.fromkeys([*TIME_GROUPS, "rest"], 0.0))
        for event in (row for row in recorded.key_averages() if row.device_type == torch.autograd.DeviceType.CPU):
            on_device = event.self_device_time_total if device.startswith("cuda") else event.self_cpu_time_total
            found[-1][time_group(event.key)] += on_device / 1000
    return {group: round(min(row[group] for row in found), 3) for group in found[0]}


# 73_fast: How much arithmetic there is

class Layer(NamedTuple):
    """What one layer with weights costs in a pass forward."""

    name: str
    flops: int          # multiplications and additions
    numbers: int        # what has to be moved if each number is moved once: what is read, the weights, what is written


def layer_flops(layer: nn.Module, x: Tensor, y: Tensor) -> int:
    """Multiplications and additions of a layer from ``x`` to ``y``; 0 for layers that are not linear maps."""
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
    """FLOPs of a pass of ``batch_size`` images forward through each network, and those of its first layer."""
    x, there = model.images, next(model.parameters())
    image = there.new_zeros(2, x.channels, x.size, x.size)                      # two, and then scaled
    code = there.new_zeros(2, model.config.networks.latent)
    read = {"encoder": image, "decoder": code, "classifier": image, "discriminator": code}
    counts = {name: [layer.flops * batch_size // 2 for layer in layers_of(getattr(model, name), seen)]
              for name, seen in read.items()}
    return {name: (sum(found), found[0]) for name, found in counts.items()}


PASSES = {
    "fused": {"encoder": (2, 2, 2, 0), "decoder": (4, 4, 6, 2), "classifier": (3, 3, 3, 3), "discriminator": (2, 2, 2, 2)},
    "lean": {"encoder": (4, 2, 2, 0), "decoder": (8, 4, 6, 2), "classifier": (6, 3, 5, 4), "discriminator": (4, 2, 2, 2)},
    "literal": {"encoder": (4, 4, 4, 0), "decoder": (8, 6, 6, 6), "classifier": (6, 6, 6, 4), "discriminator": (4, 2, 2, 2)},
}


def step_flops(model: CDLM, batch_size: int, written: str = "fused") -> int:
    """FLOPs of the linear layers in one step of the default config, from the shapes of layers and ``PASSES``."""
    total = 0
    for name, (whole, first) in network_flops(model, batch_size).items():
        forward, weights, data, through_first = PASSES[written][name]
        total += (forward + weights + data) * whole - (data - through_first) * first
    return total


class FlopCount(TorchDispatchMode):
    """Counts the multiplications and additions of what is done inside of it, by PyTorch's own formulas."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> object:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        self.total += formula(*args, **(kwargs or {}), out_val=out) if formula else 0
        return out


def count_flops(work: Callable[[], object]) -> int:
    """Multiplications and additions of convolutions and matrix products that ``work`` does."""
    with FlopCount() as counter:
        work()
    return counter.total


# 73_fast: What the machine could do

def wait(device: str) -> None:
    """Return when the device has done all that it was given to do."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def matrix_work(precision: str, device: str, size: int = 2048) -> tuple[Callable[[], object], int]:
    """A product of two random matrices (size, size) to be timed, and its FLOPs."""
    x = torch.rand(size, size, device=device).to(getattr(torch, precision))
    return (lambda: x @ x), 2 * size**3


def copy_work(device: str, size: int = 2**26) -> tuple[Callable[[], object], int]:
    """A copy of ``size`` bytes to be timed, and how many bytes are read and written by it."""
    there, back = (torch.ones(size // 4, device=device) for _ in range(2))
    return (lambda: back.copy_(there)), 2 * size


def interleaved(works: Mapping[str, Callable[[], object]], rounds: int, device: str = "cpu",
                before: Callable[[str], None] = lambda name: None) -> dict[str, list[float]]:
    """Seconds of each work in each round; ``before(name)`` is called, and the work done once, before it is timed."""
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
def noted_inputs(networks: Mapping[str, nn.Module]) -> Iterator[dict[str, tuple[nn.Module, Tensor]]]:
    """While the block runs, collect each convolution and linear map of ``networks`` with what it has last read."""
    found, hooks = {}, []
    for label, network in networks.items():
        for name, layer in network.named_modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
                def note(layer: nn.Module, read: tuple[Tensor], written: Tensor, key: str = f"{label}.{name}") -> None:
                    found[key] = (layer, read[0].detach())
                hooks.append(layer.register_forward_hook(note))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def layer_work(layer: nn.Module, x: Tensor, precision: str) -> Callable[[], object]:
    """A pass of ``x`` (B, ...) through a layer, forward and backward to its weights and to ``x``, to be timed."""
    x = x.clone().requires_grad_()
    def work() -> None:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            y = layer(x)
        torch.autograd.grad(y, (x, layer.weight), y.detach())
    return work


def measure_layers(width: int, batch_size: int, rounds: int, device: str = "cpu") -> list[dict[str, object]]:
    """Time, FLOPs and least traffic of each layer of encoder, decoder and classifier, forward and backward, two precisions.

    The traffic is that of eq. ``t >= max(...)``: each number is moved once in each of the three products of a layer.
    """
    model = CDLM(CDLMConfig.of(width=width)).to(device).to(memory_format=torch.channels_last)
    networks = {name: getattr(model, name) for name in ("encoder", "decoder", "classifier")}
    x, z = random_batch(batch_size, 28, torch.Generator(device), True).x_s, torch.randn(batch_size, 32, device=device)
    with torch.no_grad(), noted_inputs(networks) as found:
        model.encoder(x), model.decoder(z), model.classifier(x)
    works, costs = {}, {}
    for name, (layer, read) in found.items():
        written = layer(read)
        numbers = read.numel() + layer.weight.numel() + written.numel()
        for precision, size in (("float32", 4), ("bfloat16", 2)):
            works[f"{name} {precision}"] = layer_work(layer, read, precision)
            costs[f"{name} {precision}"] = (3 * layer_flops(layer, read, written), 3 * size * numbers)
    taken = interleaved(works, rounds, device)
    return [{"layer": name.split()[0], "precision": name.split()[1], "seconds": round(min(seconds), 7),
             "flops": costs[name][0], "bytes": costs[name][1]} for name, seconds in taken.items()]


# 73_fast: The ladder

def keep_memory(keep: bool = True) -> bool:
    """Tell the allocator of glibc to keep freed memory for the process, or to hand large blocks back; whether it obeys.

    The same for a whole process, without this call: MALLOC_MMAP_THRESHOLD_=2147483647 MALLOC_TRIM_THRESHOLD_=2147483647
    in its environment. With ``keep=False`` the thresholds are the largest that glibc itself would ever arrive at. Nothing
    happens, and the answer is False, where the C library is another one.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    from_system, trim = (2**31 - 1, 2**31 - 1) if keep else (2**25, 2**26)      # bytes
    library = ctypes.CDLL(None)
    return bool(library.mallopt(-3, from_system) and library.mallopt(-1, trim))     # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD


def measure_ladder(ways: Mapping[str, Way], width: int, batch_size: int, rounds: int, device: str = "cpu",
                   matrix: int = 2048) -> dict[str, dict]:
    """Each way, and matrix products in both precisions, in interleaved rounds: seconds, GFLOP/s, and the share of the peak.

    The peak is the fastest product of matrices (matrix, matrix) of the same precision in the same rounds.
    """
    works = {name: make_step(way, width, batch_size, device=device) for name, way in ways.items()}
    matrices = {precision: matrix_work(precision, device, matrix) for precision in ("float32", "bfloat16")}
    def before(name: str) -> None:
        keep_memory(name in ways and ways[name].keeps_memory)
    for work in works.values():
        work()                                                  # the first step of all allocates, and may compile
    taken = interleaved(works | {name: work for name, (work, _) in matrices.items()}, rounds, device, before)
    keep_memory(False)
    peaks = {name: flops / min(taken[name]) / 1e9 for name, (_, flops) in matrices.items()}
    model, rows = CDLM(CDLMConfig.of(width=width)), {}
    for name, way in ways.items():
        flops, seconds = step_flops(model, batch_size, way.written), taken[name]
        rows[name] = {"min_ms": round(1000 * min(seconds), 3), "median_ms": round(1000 * statistics.median(seconds), 3),
                      "gflop": round(flops / 1e9, 3), "gflops": round(flops / min(seconds) / 1e9, 2),
                      "peak_fraction": round(flops / min(seconds) / 1e9 / peaks[way.precision], 4)}
    return {"ways": rows, "peak_gflops": {name: round(peak, 1) for name, peak in peaks.items()}}


# 73_fast: Larger batches, networks, images

def peak_memory(work: Callable[[], object], device: str = "cpu") -> int:
    """Bytes by which the tensors of one call of ``work`` exceed, at their most, what was there before.

    On CUDA by PyTorch's own count; elsewhere by the profiler's, which sees all that PyTorch's allocator hands out. What a
    library allocates for itself inside an operation is not in it, nor is what the process needs besides tensors.
    """
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    with quiet_profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    most = total = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        total += event.nbytes()
        most = max(most, total)
    return most


GROWTH = {"batch size": (16, 64, 256), "width": (16, 32, 64), "image size": (28, 32, 64)}     # the others as in the book


def measure_growth(growth: Mapping[str, tuple[int, ...]], rounds: int, device: str = "cpu") -> list[dict[str, object]]:
    """Images per second, of both domains together, and peak memory of a fused step as one thing grows at a time."""
    rows = []
    for axis, values in growth.items():
        for value in values:
            at = {"batch size": 64, "width": 16, "image size": 28, axis: value}
            ways = {p: Way(precision=p, channels_last=True, keeps_memory=True) for p in ("float32", "bfloat16")}
            works = {name: make_step(way, at["width"], at["batch size"], at["image size"], device) for name, way in ways.items()}
            taken = interleaved(works, rounds, device, lambda name: keep_memory())
            rows += [{"axis": axis, "value": value, "precision": name, "ms": round(1000 * min(taken[name]), 3),
                      "images_per_s": round(2 * at["batch size"] / min(taken[name]), 1),
                      "memory_mib": round(peak_memory(work, device) / 2**20, 1)} for name, work in works.items()]
    keep_memory(False)
    return rows


# 73_fast: Seconds to an accuracy, beside other libraries

class Stopwatch:
    """Counts the steps and seconds of a training, and says when it has reached an accuracy on ``split``, or its end."""

    def __init__(self, split: Split, threshold: float, steps: int, every: int = 50) -> None:
        self.split, self.threshold, self.steps, self.every = split, threshold, steps, every
        self.done, self.seconds, self.best, self.reached = 0, 0.0, 0.0, False
        self.start = time.perf_counter()

    def go(self) -> None:
        """Start, when all is prepared; the first step takes its time from here."""
        self.start = time.perf_counter()

    def stop_after_step(self, network: nn.Module, logits: Callable[[Tensor], Tensor]) -> bool:
        """To be called after every step; now and then the clock stands still and ``logits`` are looked at."""
        self.done += 1
        if self.done % self.every and self.done < self.steps:
            return False
        self.seconds += time.perf_counter() - self.start
        network.eval()
        found = accuracy(predict(logits, self.split.images), self.split.labels)
        network.train()
        self.best = max(self.best, found)
        self.reached = found >= self.threshold
        self.start = time.perf_counter()
        return self.reached or self.done >= self.steps

    def strength(self) -> float:
        """Of the gradient reversal, by the schedule of domain-adversarial training, for the share of steps done."""
        return reversal_strength(self.done / self.steps)


def race_ours(method: Method, source: Domain, target: Domain, watch: Stopwatch, batch_size: int) -> None:
    """Train one of our methods until the stopwatch says stop."""
    generator, trainer = torch.Generator().manual_seed(0), Trainer(method.train(), watch.steps)
    watch.go()
    while True:
        trainer.step(draw_pair(source.train, target.train, batch_size, generator), generator)
        if watch.stop_after_step(method, method.logits):
            return


def dann_optimizer(model: DANN, watch: Stopwatch) -> tuple[torch.optim.Optimizer, LambdaLR]:
    """The optimizer of our domain-adversarial training and its schedule, for the loops of others."""
    learner, = model.learners()
    optimizer = torch.optim.SGD(learner.parameters, learner.lr, momentum=learner.momentum)
    return optimizer, LambdaLR(optimizer, lambda done: learner.schedule(done / watch.steps))


def race_pytorch_adapt(model: DANN, source: Domain, target: Domain, watch: Stopwatch, batch_size: int) -> None:
    """The same for pytorch-adapt's DANNHook, fed by its own joint data set through a DataLoader. Raises ImportError."""
    hooks, data = (importlib.import_module(f"pytorch_adapt.{name}") for name in ("hooks", "datasets"))
    optimizer, schedule = dann_optimizer(model, watch)
    features = hooks.FeaturesForDomainLossHook()
    reversal = hooks.dann.GradientReversalHook(weight=0.0, apply_to=features.out_keys)
    hook = hooks.DANNHook(opts=[optimizer], f_hook=features, gradient_reversal=reversal)
    pairs = [TensorDataset(normalize(domain.train.images), domain.train.labels) for domain in (source, target)]
    joint = data.CombinedSourceAndTargetDataset(data.SourceDataset(pairs[0]), data.TargetDataset(pairs[1]))
    loader = DataLoader(joint, batch_size, shuffle=True, drop_last=True)
    networks = {"G": model.classifier.layers[:-1], "C": model.classifier.layers[-1], "D": model.discriminator}
    model.train()
    watch.go()
    while True:
        for batch in loader:
            reversal.fn.update_weight(watch.strength())
            hook({**networks, **batch})
            schedule.step()
            if watch.stop_after_step(model, model.logits):
                return


class ReversedGuess(nn.Module):
    """The discriminator of ``model`` behind a gradient reversal of a strength that can be set, as a probability."""

    def __init__(self, model: DANN) -> None:
        super().__init__()
        self.discriminator, self.strength = model.discriminator, 0.0

    def forward(self, h: Tensor, sample_weight: object = None) -> Tensor:
        """Probabilities (batch,) of features (batch, d)."""
        return self.discriminator(reverse_gradient(h, self.strength)).sigmoid()


class Readout(nn.Module):
    """The classifier of ``model`` with the signature that skada calls."""

    def __init__(self, model: DANN) -> None:
        super().__init__()
        self.features, self.last = model.classifier.layers[:-1], model.classifier.layers[-1]

    def forward(self, x: Tensor, sample_weight: object = None) -> Tensor:
        """Class logits (batch, classes) of images."""
        return self.last(self.features(x))


class RaceOver(Exception):
    """The way out of a training loop that is not ours."""


def race_skada(model: DANN, source: Domain, target: Domain, watch: Stopwatch, batch_size: int) -> None:
    """The same for skada's DANN, in its own loop, which a callback watches. Raises ImportError if skada is missing."""
    deep, callbacks = (importlib.import_module(name) for name in ("skada.deep", "skorch.callbacks"))
    learner, = model.learners()
    guess, readout = ReversedGuess(model), Readout(model)
    class Watch(callbacks.Callback):
        def on_batch_end(self, net: object, training: bool = False, **rest: object) -> None:
            guess.strength = watch.strength()
            if watch.stop_after_step(model, model.logits):
                raise RaceOver
    schedule = callbacks.LRScheduler(LambdaLR, lr_lambda=lambda done: learner.schedule(done / watch.steps), step_every="batch")
    net = deep.DANN(readout, "features", domain_classifier=guess, max_epochs=watch.steps, batch_size=batch_size,
                    optimizer=torch.optim.SGD, optimizer__momentum=learner.momentum, lr=learner.lr, train_split=None, verbose=0,
                    callbacks=[("schedule", schedule), ("watch", Watch())])
    images = torch.cat([normalize(domain.train.images) for domain in (source, target)])
    domains = torch.cat([torch.ones(len(source.train)), -torch.ones(len(target.train))]).long()
    labels = torch.cat([source.train.labels, torch.full((len(target.train),), -1)])
    watch.go()
    try:
        net.fit(images.numpy(), labels.numpy(), sample_domain=domains.numpy())
    except RaceOver:
        pass


RACERS = {
    "CDLM": (CDLM, race_ours), "DANN": (DANN, race_ours),
    "DANN, pytorch-adapt": (DANN, race_pytorch_adapt), "DANN, skada": (DANN, race_skada),
}


def measure_race(source: Domain, target: Domain, threshold: float, steps: int = 1500, batch_size: int = 64,
                 seed: int = 0, racers: tuple[str, ...] = tuple(RACERS)) -> dict[str, dict[str, object]]:
    """Seconds, steps and best accuracy of each racer on the target's test images, until ``threshold`` or ``steps``.

    What is not installed has a row that says so. Target labels stop the clock; they are not trained on.
    """
    rows = {}
    for name in racers:
        make, race = RACERS[name]
        torch.manual_seed(seed)
        method, watch = make(), Stopwatch(target.test, threshold, steps)
        try:
            race(method, source, target, watch, batch_size)
        except ImportError as error:
            rows[name] = {"installed": False, "why": f"not installed ({error})"}
            continue
        rows[name] = {"installed": True, "reached": watch.reached, "seconds": round(watch.seconds, 2), "steps": watch.done,
                      "best_accuracy": round(watch.best, 4), "ms_per_step": round(1000 * watch.seconds / watch.done, 2)}
    return rows


def race_line(row: Mapping[str, object]) -> str:
    """A row of a race as text."""
    if not row["installed"]:
        return str(row["why"])
    how = "reached after" if row["reached"] else "NOT reached in"
    return (f"{how} {row['seconds']:7.1f} s, {row['steps']:5} steps of {row['ms_per_step']:6.1f} ms; "
            f"best accuracy seen {row['best_accuracy']:.3f}")


# 73_fast: All of it in one command

def load_of_machine() -> float:
    """How many programs wanted to run on this machine in the last minute, on average; NaN where nobody counts."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")


def measure_ladders(widths: tuple[int, ...], ways: Mapping[str, Way], batch_size: int, rounds: int, device: str,
                    matrix: int) -> dict[str, dict]:
    """Ladder and profile by width, as text since JSON wants that; half as many rounds for wide networks, which are steadier."""
    ladders, profiles = {}, {}
    for width in widths:
        often = rounds if width < 64 else max(1, rounds // 2)
        ladders[str(width)] = measure_ladder(ways, width, batch_size, often, device, matrix)
        profiles[str(width)] = {p: time_by_group(make_step(Way(precision=p, channels_last=True), width, batch_size, device=device),
                                                 max(1, often // 3), device) for p in ("float32", "bfloat16")}
    return {"ladder": ladders, "profile": profiles}


def fractions(ladders: Mapping[str, dict], batch_size: int) -> dict[str, object]:
    """The few numbers that a ladder comes down to: narrowest width for speed, widest for shares of the peak."""
    narrow, *_, wide = [*ladders, list(ladders)[-1]]
    over = {width: {name: ladder["ways"]["literal"]["min_ms"] / row["min_ms"] for name, row in ladder["ways"].items()}
            for width, ladder in ladders.items()}
    rows, fastest = ladders[narrow]["ways"], {width: round(max(ratios.values()), 3) for width, ratios in over.items()}
    known, shares = {**LADDER, **COMPILED}, {"float32": [0.0], "bfloat16": [0.0]}
    for name, row in ladders[wide]["ways"].items():
        if known[name].written == "fused":
            shares[known[name].precision].append(row["peak_fraction"])
    return {"fused_over_literal": round(over[narrow]["fused"], 3),
            "fused_over_literal_by_width": {width: round(ratios["fused"], 3) for width, ratios in over.items()},
            "fastest_over_literal": fastest[narrow], "fastest_over_literal_by_width": fastest,
            "flops_literal_over_fused": round(rows["literal"]["gflop"] / rows["fused"]["gflop"], 3),
            "peak_fraction_float32": max(shares["float32"]), "peak_fraction_bfloat16": max(shares["bfloat16"]),
            "images_per_s": round(2 * batch_size * 1000 / min(row["min_ms"] for row in rows.values()), 1)}


QUICK = ("literal", "fused", "+ channels last", "+ bfloat16")          # with --quick


def measure_step(device: str = "cpu", quick: bool = False, compiled: bool = False, widths: tuple[int, ...] = (16, 96),
                 batch_size: int = 64, rounds: int = 6, growth: Mapping[str, tuple[int, ...]] = GROWTH,
                 matrix: int | None = None) -> dict[str, object]:
    """All measurements of this chapter but accuracy, in one run: a record with its provenance and the machine's load.

    ``quick`` has fewer ways, two rounds and only the smaller sizes; ``compiled`` adds compiled networks to the ladder.
    ``matrix`` is the side of the matrices that measure the peak, by default 2048, and 8192 on CUDA.
    """
    start, load = time.monotonic(), load_of_machine()
    ways = {name: LADDER[name] for name in QUICK} if quick else LADDER
    ways = ways | COMPILED if compiled else ways
    rounds = min(rounds, 2) if quick else rounds
    growth = {axis: values[:2] for axis, values in growth.items()} if quick else growth
    found = measure_ladders(widths, ways, batch_size, rounds, device, matrix or (8192 if device.startswith("cuda") else 2048))
    copying, moved = copy_work(device)
    bandwidth = moved / min(interleaved({"copy": copying}, max(3, rounds), device)["copy"]) / 1e9
    step = make_step(Way(channels_last=True), widths[0], batch_size, device=device)
    step()
    return {"measured": "training step", "device": device, "batch_size": batch_size, "rounds": rounds, "quick": quick,
            "ways": {name: asdict(way) for name, way in ways.items()}, **found, **fractions(found["ladder"], batch_size),
            "peak_gflops": found["ladder"][str(widths[-1])]["peak_gflops"], "bandwidth_gb_per_s": round(bandwidth, 2),
            "memory_mib": round(peak_memory(step, device) / 2**20, 1), "memory_kept": platform.libc_ver()[0] == "glibc",
            "layers": measure_layers(widths[-1], batch_size, max(1, rounds // 2), device),
            "growth": measure_growth(growth, max(1, rounds // 2), device), "provenance": provenance(device),
            "load": [round(load, 2), round(load_of_machine(), 2)], "seconds": round(time.monotonic() - start, 1)}


def step_table(record: Mapping[str, object]) -> str:
    """A record of ``measure_step`` as the text that the command prints."""
    lines = [f"{record['provenance']['hardware']}, threads: {record['provenance']['threads']}, {record['device']}; "
             f"load {record['load'][0]} to {record['load'][1]}; {record['seconds']:.0f} s"]
    for width, ladder in record["ladder"].items():
        peaks = ", ".join(f"{name} {peak:.0f}" for name, peak in ladder["peak_gflops"].items())
        lines += [f"width {width}, batch {record['batch_size']}; matrix product in GFLOP/s: {peaks}",
                  f"  {'way':16} {'least ms':>10} {'median':>10} {'GFLOP':>8} {'GFLOP/s':>8} {'of peak':>8} {'x literal':>9}"]
        literal = ladder["ways"]["literal"]["min_ms"]
        lines += [f"  {name:16} {row['min_ms']:10.1f} {row['median_ms']:10.1f} {row['gflop']:8.1f} {row['gflops']:8.0f} "
                  f"{row['peak_fraction']:8.1%} {literal / row['min_ms']:9.2f}" for name, row in ladder["ways"].items()]
    lines.append(f"the literal step does {record['flops_literal_over_fused']} times the arithmetic of the fused one, "
                 f"and takes {record['fused_over_literal']} times as long (float32, the narrower width)")
    lines += [f"  {row['axis']:10} {row['value']:>4} {row['precision']:8} {row['images_per_s']:9.0f} images/s "
              f"{row['memory_mib']:8.0f} MiB of tensors" for row in record["growth"]]
    return "\n".join(lines)
