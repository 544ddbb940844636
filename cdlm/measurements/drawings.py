"""What a stored run draws, as records: only images that may be printed.

Generated from book/src/84_inside.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cdlm.data.domain import Split, checksum
from cdlm.domains.catalog import in_color
from cdlm.evaluation.accuracy import accuracy
from cdlm.evaluation.readouts import in_batches, translations
from cdlm.files import RunError
from cdlm.measurements.stored import load_trained, measure_runs
from cdlm.provenance import provenance
from cdlm.runs.folder import load_spec
from cdlm.runs.run import data_checksums
from cdlm.runs.spec import open_at

__all__ = [
    "SHOWABLE",
    "SHOWN_FROM",
    "check_showable",
    "images_of",
    "measure_translations",
    "pick_columns",
    "png_text",
    "share_seen",
    "shown_images",
    "to_bytes",
    "translation_record",
]


# 84_inside: What may be shown

SHOWABLE = {"mnist": "sample", "mnistm": "sample", "optdigits": "sample", "fashion": "full",
            "fashionm": "partial"}
"""Domains whose images may be printed, by name, with the size of the catalog in which they
may.

"sample" comes with packages, "partial" lies over photographs that do, "full" is Fashion-MNIST
under the MIT license.
"""
SHOWN_FROM = {"sample": "the sample in packages", "partial": "over photographs in packages",
              "full": "the whole set"}


def check_showable(name: str) -> None:
    """Raise RunError for a domain whose images may not be printed, USPS among them."""
    if name not in SHOWABLE:
        raise RunError(f"images of {name} are not ours to print or to store; "
                       f"those of {', '.join(SHOWABLE)} are")


def shown_images(name: str, channels: int) -> tuple[Split, str]:
    """Test images of a domain that may be printed, with ``channels``, and where they come
    from.

    Raises RunError for every other domain, and what ``open_at`` raises where files are
    missing.
    """
    check_showable(name)
    domain = open_at(name, SHOWABLE[name])
    split = domain.test if domain.channels == channels else in_color(domain.test)
    return split, f"{domain.title}, {SHOWN_FROM[SHOWABLE[name]]}"


def share_seen(images: Tensor, others: Tensor) -> float:
    """Share of byte ``images`` (N, C, H, W) that occur among ``others`` (M, C, H, W), pixel by
    pixel."""
    known = {image.numpy().tobytes() for image in others}
    return sum(image.numpy().tobytes() in known for image in images) / len(images)


def to_bytes(images: Tensor) -> Tensor:
    """Images in [-1, 1] as bytes; the inverse of ``normalize`` on what bytes can hold."""
    return ((images.detach().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def png_text(images: Tensor) -> str:
    """Square byte images (N, C, H, H), C 1 or 3, side by side in one PNG, as base64 text.

    Nothing is lost.
    """
    strip = images.permute(2, 0, 3, 1).flatten(1, 2)                    # (H, N * H, C)
    buffer = io.BytesIO()
    Image.fromarray(strip.squeeze(-1).contiguous().numpy()).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def images_of(text: str) -> Tensor:
    """The byte images (N, C, H, H) that ``png_text`` has put together."""
    strip = torch.from_numpy(np.array(Image.open(io.BytesIO(base64.b64decode(text)))))
    height, width = strip.shape[:2]
    return strip.reshape(height, width // height, height, -1).permute(1, 3, 0, 2)


# 84_inside: Translations, with their failures

def pick_columns(right: Tensor, count: int, seed: int = 0) -> Tensor:
    """Indices of ``count`` images: half of them failures, the others right, at random; right
    ones stand first.

    ``right`` (N,) says which are right. Where one kind has too few, the other fills up. Raises
    RunError for fewer than ``count`` images.
    """
    if len(right) < count:
        raise RunError(f"{count} images asked, of {len(right)}")
    order = torch.randperm(len(right), generator=torch.Generator().manual_seed(seed))
    good, bad = order[right[order]], order[~right[order]]
    failures = min(len(bad), max(count // 2, count - len(good)))
    return torch.cat([good[:count - failures], bad[:failures]])


def translation_record(folder: Path, count: int = 12, seed: int = 0,
                       checked: int = 2000) -> dict:
    """Translations by a stored run: rows x_t, x_hat_ts, x_tilde_t of ``count`` test images,
    half of them failures.

    The failures are those of the classifier on x_tilde_t, among ``checked`` random images that
    may be printed; finding them takes labels. Raises RunError for a target whose images may
    not be printed, before anything is computed.
    """
    check_showable(load_spec(folder).target)
    spec, model, source, target = load_trained(folder)
    split, origin = shown_images(spec.target, target.channels)
    some = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:checked]
    images, labels = split.images[some].contiguous(), split.labels[some]
    drawn = translations(model, source.train.images, images, seed)
    read = {path: in_batches(model.classifier, x).detach().softmax(1)
            for path, x in drawn.items()}
    probability, predicted = read["x_tilde_t"].max(1)
    chosen = pick_columns(predicted == labels, min(count, len(labels)), seed)
    columns = [{"class": int(labels[i]), "prediction": int(predicted[i]),
                "probability": round(float(probability[i]), 3)} for i in chosen]
    return {"seed": spec.seed, "origin": origin, "checked": len(labels), "columns": columns,
            "failures": int((predicted != labels).sum()),
            "seen_in_training": share_seen(images, target.train.images), "accuracy": {
                path: round(accuracy(p.argmax(1), labels), 4) for path, p in read.items()},
            "rows": {path: png_text(to_bytes(x[chosen])) for path, x in drawn.items()},
            "data": data_checksums(source, target) | {"shown": checksum(split)},
            "provenance": provenance("cpu")}


def measure_translations(folders: Iterable[Path]) -> dict:
    """Translations by stored runs; see ``translation_record``."""
    return measure_runs(folders, "translations", translation_record)
