"""Pictures of what a stored run draws from new images.

Generated from book/src/87_own_images.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from cdlm.data.archives import new_place
from cdlm.data.batches import normalize
from cdlm.evaluation.readouts import in_batches
from cdlm.files import RunError
from cdlm.model.networks import Encoded
from cdlm.model.normalization import facing
from cdlm.plotting import image_rows
from cdlm.use.images import Framing, Group, asked_images, pieces
from cdlm.use.prediction import (
    StoredModel,
    check_new,
    common_noise,
    open_model,
    partner,
    target_codes,
)

__all__ = [
    "MOST_SHOWN",
    "Route",
    "as_picture",
    "draw_way",
    "need_decoder",
    "save_gif",
    "save_grid",
    "tiled",
    "translate_run",
    "walk",
    "write_drawings",
]


# 87_own_images: Pictures of what it sees

class Route(NamedTuple):
    """A target image and what is drawn from it: images (n, C, H, W) in [-1, 1]; the drawings
    x_tilde_t are (n, samples, C, H, W)."""

    x_t: Tensor
    x_hat_ts: Tensor
    x_tilde_t: Tensor


def need_decoder(model: StoredModel) -> None:
    """Raise RunError for a method that does not draw from codes as CDLM does."""
    if not model.method.draws:
        raise RunError(f"{model.folder} was trained by {model.spec.method}, which draws "
                       "no images from modulated codes; cdlm and improved do")


@torch.no_grad()
def draw_way(model: StoredModel, images: Tensor, samples: int = 0, seed: int = 0) -> Route:
    """What a model draws from target images, bytes (n, C, H, W): once at the mean of the code,
    or ``samples`` times, with noises that are the same for all images.

    Raises RunError for a method without a decoder.
    """
    need_decoder(model)
    noises = common_noise(model, samples or 1, seed if samples else None)
    other = partner(model)
    def draw(eps: Tensor, modulator: Encoded | None = None) -> Tensor:
        def work(part: Tensor) -> Tensor:
            return model.method.decoder(target_codes(model, part, eps, modulator)).cpu()
        return in_batches(work, x)
    x = normalize(images.to(model.device))
    with facing(model.method, "target"):
        drawn = torch.stack([draw(eps[None]) for eps in noises], 1)
        return Route(x.cpu(), draw(common_noise(model), other), drawn)


@torch.no_grad()
def walk(model: StoredModel, images: Tensor, count: int = 12) -> Tensor:
    """Drawings on the straight line from the code of x_hat_ts to that of x_tilde_t, without
    noise, (count, n, C, H, W), of target images, bytes (n, C, H, W)."""
    x, eps = normalize(images.to(model.device)), common_noise(model)
    with facing(model.method, "target"):
        z_ts, u_t = target_codes(model, x, eps, partner(model)), target_codes(model, x, eps)
        return torch.stack([model.method.decoder((1 - a) * z_ts + a * u_t).cpu()
                            for a in torch.linspace(0, 1, count).tolist()])


def as_picture(image: Tensor) -> Image.Image:
    """An image (C, H, W) in [-1, 1] as a picture, gray or RGB."""
    pixels = ((image.clamp(-1, 1) + 1) * 127.5).round().byte()
    return Image.fromarray(pixels[0].numpy() if len(pixels) == 1
                           else pixels.permute(1, 2, 0).contiguous().numpy())


def tiled(images: Tensor, in_a_row: int) -> Image.Image:
    """Images (N, C, H, W) in [-1, 1] on one sheet, so many in a row."""
    return as_picture(make_grid(images, in_a_row, padding=2, pad_value=1.0))


def save_grid(way: Route, folder: Path) -> None:
    """Write sheet.png, each image beside its drawings, and way.png, three labeled rows of the
    first ten."""
    count = 1 + way.x_tilde_t.shape[1]
    pairs = torch.cat([way.x_t[:, None], way.x_tilde_t], 1)
    tiled(pairs.flatten(0, 1), count * max(1, 12 // count)).save(folder / "sheet.png")
    rows = {"$x_t$": way.x_t[:10], r"$\hat{x}_{ts}$": way.x_hat_ts[:10],
            r"$\tilde{x}_t$": way.x_tilde_t[:10, 0]}
    shown = len(rows["$x_t$"])
    figure = Figure(figsize=(0.6 * shown + 1, 2.4))
    image_rows(rows, figure.subplots())
    figure.savefig(folder / "way.png", dpi=150, bbox_inches="tight")


def save_gif(x_t: Tensor, steps: Tensor, path: Path) -> None:
    """Write an animation: images (n, C, H, W) as they are, then the ``steps`` of a walk,
    (count, n, C, H, W), in [-1, 1]."""
    side = max(1, round(len(x_t) ** 0.5))
    frames = [tiled(images, side) for images in (x_t, *steps)]
    times = [1000, *[120] * (len(steps) - 1), 1000]
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:], duration=times,
                   loop=0)


MOST_SHOWN = 200         # images on a sheet; a walk shows the first 64


def write_drawings(model: StoredModel, group: Group, place: Path, how: dict[str, int],
                   framing: Framing, skipped: list[str] | None,
                   table: list[list[object]]) -> Tensor:
    """Write the drawings of a group, add to ``table`` a line for each, and return the first
    ``MOST_SHOWN`` images as bytes."""
    kept = []
    for names, images in pieces(group, framing, skipped):
        drawn = draw_way(model, images, **how).x_tilde_t
        for name, samples in zip(names, drawn):
            stem = re.sub(r"[^\w-]", "_", Path(name).stem, flags=re.ASCII)[:60]
            for draw, image in enumerate(samples, 1):
                file = f"{len(table) + 1:06}_{stem}.png"
                as_picture(image).save(place / file)
                table.append([file, name, draw])
        kept.append(images[:max(0, MOST_SHOWN - sum(map(len, kept)))])
    return torch.cat(kept) if kept else torch.empty(0, *model.shape, dtype=torch.uint8)


def translate_run(folder: Path, images: Sequence[str], out: Path, samples: int = 0,
                  seed: int = 0, grid: bool = False, gif: bool = False, strict: bool = False,
                  fit: str = "crop", ground: int = 255, source: str | None = None,
                  device: str = "cpu") -> tuple[int, list[str]]:
    """Write drawings of images into the new folder ``out``; how many, and what was no image.

    Raises RunError, DataError for whatever is not in order; then nothing is written.
    """
    check_new(out)
    model = open_model(Path(folder), source, device)
    need_decoder(model)
    framing = Framing(model.shape[1], model.shape[0], fit, ground)
    skipped = None if strict else []
    with asked_images(images, model.shape) as groups, new_place(out) as place:
        table, how = [], {"samples": samples, "seed": seed}
        kept = torch.cat([write_drawings(model, group, place, how, framing, skipped, table)
                          for group in groups])[:MOST_SHOWN]
        if not table:
            raise RunError(f"none of these {len(skipped or ())} files is an image: "
                           f"{(skipped or ['?'])[0]}")
        with open(place / "drawings.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([["drawing", "file", "draw"],
                                                             *table])
        if grid:
            save_grid(draw_way(model, kept, **how), place)
        if gif:
            first = kept[:64]
            save_gif(normalize(first), walk(model, first), place / "way.gif")
    return len(table), skipped or []
