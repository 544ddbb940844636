"""What it costs to feed a network, beside what others use.

Generated from book/src/60_data.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from cdlm.data.batches import draw, draw_pair
from cdlm.data.domain import Split
from cdlm.domains.catalog import open_domain
from cdlm.methods.cdlm import CDLM, CDLMConfig
from cdlm.training.engine import Trainer

__all__ = ["PlainMNIST", "bench_data", "dataloader_seconds", "seconds_each"]


# 60_data: Is it fast?

class PlainMNIST(datasets.MNIST):
    """A split as torchvision's own MNIST: image by image, through Pillow, to a normalized
    tensor."""

    def __init__(self, split: Split) -> None:
        self.data, self.targets, self.target_transform = split.images[:, 0], split.labels, None
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize(0.5, 0.5)])


def seconds_each(work: Callable[[], object], times: int, device: str,
                 rounds: int = 5) -> float:
    """Seconds that ``work`` takes: the fastest of some rounds of ``times`` calls, after one to
    warm up.

    The fastest, since other programs on the machine can only add to it.
    """
    def wait() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize()
    taken = []
    work()
    for _ in range(rounds):
        wait()
        start = time.perf_counter()
        for _ in range(times):
            work()
        wait()
        taken.append((time.perf_counter() - start) / times)
    return min(taken)


def dataloader_seconds(split: Split, batch_size: int, times: int, device: str) -> float:
    """Seconds for a batch of torchvision's MNIST out of a DataLoader, onto the device."""
    loader = DataLoader(PlainMNIST(split), batch_size, shuffle=True, drop_last=True)
    feed = iter([])
    def next_batch() -> None:
        nonlocal feed
        batch = next(feed, None)
        if batch is None:
            feed = iter(loader)
            batch = next(feed)
        for part in batch:
            part.to(device)
    return seconds_each(next_batch, times, device)


def bench_data(device: str = "cpu", batch_size: int = 64,
               batches: int = 200) -> dict[str, float | int | str]:
    """Measure images per second, against torchvision's MNIST in a DataLoader, and as a share
    of a CDLM training step.

    All in one run on the same machine and the same images, MNIST's, as many as there are on
    it.
    """
    mnist = open_domain("mnist")
    split, generator = mnist.train.to(device), torch.Generator(device).manual_seed(0)
    ours = seconds_each(lambda: draw(split, batch_size, generator), batches, device)
    plain = dataloader_seconds(mnist.train, batch_size, max(1, batches // 10), device)
    trainer = Trainer(CDLM(CDLMConfig()).to(device).train(), steps=1000)
    pair = draw_pair(split, split, batch_size, generator)
    drawing = seconds_each(lambda: draw_pair(split, split, batch_size, generator), batches,
                           device)
    step = seconds_each(lambda: trainer.step(pair, generator), max(1, batches // 40), device)
    return {"images_per_s": round(batch_size / ours),
            "dataloader_images_per_s": round(batch_size / plain),
            "over_dataloader": round(plain / ours, 1),
            "fraction_of_step": round(drawing / (drawing + step), 5),
            "step_ms": round(1000 * step, 2), "batch_size": batch_size, "images": len(split),
            "device": device, "threads": torch.get_num_threads()}
