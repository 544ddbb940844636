"""Run folders as tests need them: small images in folders, copies of a run, and runs of before there were checksums."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image


def noise_pictures(folder: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 6, seed: int = 0) -> Path:
    """A folder for each class, of pictures of noise."""
    dice = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = dice.integers(0, 256, (28, 28, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def without_checksums(folder: Path, config: dict | None = None, metrics: dict | None = None) -> Path:
    """Make a run one of before there were checksums, with some values of its config and metrics changed."""
    for name, changes in (("config.json", config), ("metrics.json", metrics)):
        content = json.loads((folder / name).read_text()) | (changes or {})
        content.pop("checksums", None)
        (folder / name).write_text(json.dumps(content))
    return folder


def copied(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target))


def content_of(folder: Path) -> dict[str, bytes]:
    """All files below a folder, by their path in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
