"""What predictions cost beyond the networks.

Generated from book/src/87_own_images.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch

from cdlm.data.batches import normalize
from cdlm.evaluation.readouts import in_batches
from cdlm.runs.spec import RunSpec, build_method, open_at
from cdlm.use.images import Group
from cdlm.use.prediction import StoredModel, csv_of, predict_groups

__all__ = ["bench_predict"]


# 87_own_images: What it costs

def bench_predict(method: str = "cdlm", count: int = 10_000,
                  device: str = "cpu", rounds: int = 3) -> dict[str, float | int | str]:
    """Seconds for the table of ``count`` gray images of 28 x 28 after loading, and as a ratio
    to the bare forward passes of the same networks, untrained.

    Raises RunError for a method that there is not.
    """
    spec = RunSpec(method, "mnist", "optdigits")
    source = open_at("mnist", "sample")
    networks = build_method(spec, source).eval().to(device)
    model = StoredModel(Path("untrained"), spec, networks, source)
    images = torch.randint(256, (count, 1, 28, 28), dtype=torch.uint8,
                           generator=torch.Generator().manual_seed(0))
    group = Group([f"images/{number}.png" for number in range(count)], images)
    ways = {"table": lambda: csv_of(predict_groups(model, [group])),
            "bare": lambda: in_batches(networks.logits, normalize(images).to(device)).cpu()}
    taken = {name: [] for name in ways}
    for _ in range(rounds):             # in turn, so that both meet the same machine
        for name, work in ways.items():
            start = time.perf_counter()
            work()
            taken[name].append(time.perf_counter() - start)
    seconds = {name: min(times) for name, times in taken.items()}
    return {"method": method, "images": count, "seconds": round(seconds["table"], 3),
            "bare_seconds": round(seconds["bare"], 3),
            "ratio": round(seconds["table"] / seconds["bare"], 3), "device": device,
            "threads": torch.get_num_threads()}
