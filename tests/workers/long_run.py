"""A small training in a process of its own, to be killed: python long_run.py FOLDER [save|fsync|replace N].

It keeps a checkpoint in FOLDER every third step, prints a line after each step, and stores its weights and its log at the end.
With two more words it kills itself, by SIGKILL, in the middle of saving a checkpoint, before its file is flushed, or before it is
renamed, the N-th time.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from cdlm.data.domain import Domain, Split
from cdlm.methods.cdlm import CDLM, CDLMConfig
from cdlm.training import checkpoints
from cdlm.training.callbacks import OnLog
from cdlm.training.loop import Loop, train

STEPS, EVERY = 24, 3


def random_domain(name: str, seed: int, count: int = 40, pixels: int = 28) -> Domain:
    """Random images of ten classes."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, 1, pixels, pixels), generator=generator, dtype=torch.uint8)
    split = Split(images, torch.arange(count) % 10)
    return Domain(name, name, tuple("0123456789"), split, split, "made for a test", "none")


def small(**settings: object) -> CDLM:
    torch.manual_seed(0)
    return CDLM(CDLMConfig.of(width=2, latent=2, **settings))


def training(checkpoint: Path | None, report=None, model: CDLM | None = None) -> tuple[CDLM, list[dict]]:
    """The training that all the tests kill, resume and compare."""
    model = model or small()
    loop = Loop(STEPS, batch_size=4, log_every=2, checkpoint=checkpoint, checkpoint_every=EVERY)
    log = train(model, random_domain("s", 0), random_domain("t", 1), loop, [OnLog(report)] if report else [])
    return model, log


def die_at(where: str, count: int) -> None:
    """Make the ``count``-th call of a function that writes a checkpoint the last thing this process does."""
    place, name = {"save": (checkpoints, "save_file"), "fsync": (os, "fsync"), "replace": (os, "replace")}[where]
    real, calls = getattr(place, name), []

    def deadly(*words, **more):
        calls.append(1)
        if len(calls) == count:
            if where == "save":                                     # half a file
                real(*words, **more)
                os.truncate(words[1], os.path.getsize(words[1]) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*words, **more)
    setattr(place, name, deadly)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    if len(sys.argv) > 2:
        die_at(sys.argv[2], int(sys.argv[3]))
    model, log = training(folder / "kept.safetensors", report=lambda row: print(row["step"], flush=True))
    save_file(model.state_dict(), folder / "weights.safetensors")
    (folder / "log.json").write_text(json.dumps(log))
