"""What a stored run draws and maps, as records: only images that may be printed.

Generated from book/src/83_inside.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cdlm.data.catalog import in_color
from cdlm.data.domains import Domain, Split, checksum
from cdlm.evaluation import (
    accuracy,
    confusion,
    embed_tsne,
    encode_images,
    in_batches,
    pair_codes,
    predict,
    proxy_a_distance,
    translations,
)
from cdlm.methods.base import Method
from cdlm.runs import (
    RunError,
    RunSpec,
    data_checksums,
    joined_record,
    load_run,
    load_spec,
    open_at,
    provenance,
    read_json,
)

__all__ = [
    "SHOWABLE",
    "SHOWN_FROM",
    "check_showable",
    "confusion_record",
    "images_of",
    "load_trained",
    "map_record",
    "measure_confusion",
    "measure_maps",
    "measure_runs",
    "measure_translations",
    "mixing",
    "nearest_agreement",
    "paired_views",
    "pick_columns",
    "png_text",
    "share_seen",
    "shown_images",
    "to_bytes",
    "translation_record",
]


# 83_inside: What may be shown

SHOWABLE = {"mnist": "sample", "mnistm": "sample", "optdigits": "sample", "fashion": "full", "fashionm": "partial"}
"""Domains whose images may be printed, by name, with the size of the catalog in which they may.

"sample" comes with packages, "partial" lies over photographs that do, "full" is Fashion-MNIST under the MIT license.
"""
SHOWN_FROM = {"sample": "the sample in packages", "partial": "over photographs in packages", "full": "the whole set"}


def check_showable(name: str) -> None:
    """Raise RunError for a domain whose images may not be printed, USPS among them."""
    if name not in SHOWABLE:
        raise RunError(f"images of {name} are not ours to print or to store; those of {', '.join(SHOWABLE)} are")


def shown_images(name: str, channels: int) -> tuple[Split, str]:
    """Test images of a domain that may be printed, with ``channels``, and where they come from.

    Raises RunError for every other domain, and what ``open_at`` raises where files are missing.
    """
    check_showable(name)
    domain = open_at(name, SHOWABLE[name])
    split = domain.test if domain.channels == channels else in_color(domain.test)
    return split, f"{domain.title}, {SHOWN_FROM[SHOWABLE[name]]}"


def share_seen(images: Tensor, others: Tensor) -> float:
    """Share of byte ``images`` (N, C, H, W) that occur among ``others`` (M, C, H, W), pixel by pixel."""
    known = {image.numpy().tobytes() for image in others}
    return sum(image.numpy().tobytes() in known for image in images) / len(images)


def to_bytes(images: Tensor) -> Tensor:
    """Images in [-1, 1] as bytes; the inverse of ``normalize`` on what bytes can hold."""
    return ((images.detach().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def png_text(images: Tensor) -> str:
    """Square byte images (N, C, H, H), C 1 or 3, side by side in one PNG, as base64 text. Nothing is lost."""
    strip = images.permute(2, 0, 3, 1).flatten(1, 2)                    # (H, N * H, C)
    buffer = io.BytesIO()
    Image.fromarray(strip.squeeze(-1).contiguous().numpy()).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def images_of(text: str) -> Tensor:
    """The byte images (N, C, H, H) that ``png_text`` has put together."""
    strip = torch.from_numpy(np.array(Image.open(io.BytesIO(base64.b64decode(text)))))
    height, width = strip.shape[:2]
    return strip.reshape(height, width // height, height, -1).permute(1, 3, 0, 2)


# 83_inside: Translations, with their failures

def pick_columns(right: Tensor, count: int, seed: int = 0) -> Tensor:
    """Indices of ``count`` images: half of them failures, the others right, at random; right ones stand first.

    ``right`` (N,) says which are right. Where one kind has too few, the other fills up. Raises RunError for fewer than
    ``count`` images.
    """
    if len(right) < count:
        raise RunError(f"{count} images asked, of {len(right)}")
    order = torch.randperm(len(right), generator=torch.Generator().manual_seed(seed))
    good, bad = order[right[order]], order[~right[order]]
    failures = min(len(bad), max(count // 2, count - len(good)))
    return torch.cat([good[:count - failures], bad[:failures]])


def load_trained(folder: Path) -> tuple[RunSpec, Method, Domain, Domain]:
    """A stored run of a method that draws, as ``load_run`` gives it.

    Raises RunError for other methods and where the data have changed.
    """
    spec, model, source, target = load_run(folder)
    if not model.draws:
        raise RunError(f"{folder} is a run of {spec.method}, which draws no images; give one of cdlm or improved")
    if data_checksums(source, target) != read_json(folder / "metrics.json")["data"]:
        raise RunError(f"the data are not those that {folder} was trained on")
    return spec, model, source, target


def translation_record(folder: Path, count: int = 12, seed: int = 0, checked: int = 2000) -> dict:
    """Translations by a stored run: rows x_t, x_hat_ts, x_tilde_t of ``count`` test images, half of them failures.

    The failures are those of the classifier on x_tilde_t, among ``checked`` random images that may be printed; finding them
    takes labels. Raises RunError for a target whose images may not be printed, before anything is computed.
    """
    check_showable(load_spec(folder).target)
    spec, model, source, target = load_trained(folder)
    split, origin = shown_images(spec.target, target.channels)
    some = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:checked]
    images, labels = split.images[some].contiguous(), split.labels[some]
    drawn = translations(model, source.train.images, images, seed)
    read = {path: in_batches(model.classifier, x).detach().softmax(1) for path, x in drawn.items()}
    probability, predicted = read["x_tilde_t"].max(1)
    chosen = pick_columns(predicted == labels, min(count, len(labels)), seed)
    columns = [{"class": int(labels[i]), "prediction": int(predicted[i]), "probability": round(float(probability[i]), 3)}
               for i in chosen]
    return {"seed": spec.seed, "origin": origin, "checked": len(labels), "columns": columns,
            "failures": int((predicted != labels).sum()), "seen_in_training": share_seen(images, target.train.images),
            "accuracy": {path: round(accuracy(p.argmax(1), labels), 4) for path, p in read.items()},
            "rows": {path: png_text(to_bytes(x[chosen])) for path, x in drawn.items()},
            "data": data_checksums(source, target) | {"shown": checksum(split)}, "provenance": provenance("cpu")}


def measure_runs(folders: Iterable[Path], what: str, measure_one: Callable[[Path], dict]) -> dict:
    """A record of something measured on stored runs that differ in their seed only. Raises RunError for others."""
    folders = list(folders)
    joined = joined_record(folders)
    found = sorted((measure_one(folder) for folder in folders), key=lambda one: one["seed"])
    trained = {run["seed"]: {name: run[name] for name in ("target_accuracy", "provenance")} for run in joined["runs"]}
    return {"measured": what, "spec": joined["spec"],
            "runs": [one | {"trained": trained[one["seed"]]} for one in found]}


def measure_translations(folders: Iterable[Path]) -> dict:
    """Translations by stored runs; see ``translation_record``."""
    return measure_runs(folders, "translations", translation_record)


# 83_inside: A map, and the numbers it needs

@torch.no_grad()
def paired_views(model: nn.Module, x_s: Tensor, x_t: Tensor, seed: int = 0) -> dict[str, tuple[Tensor, Tensor]]:
    """Source and target as "pixels", as "h" and as "codes" z_st and z_ts, (N, size) float64 each, from bytes (N, C, H, W)."""
    s, t = encode_images(model.encoder, x_s, domain="source"), encode_images(model.encoder, x_t)
    codes = pair_codes(model, s, t, torch.Generator().manual_seed(seed))
    pixels = tuple(x.flatten(1).double() / 255 for x in (x_s, x_t))
    return {"pixels": pixels, "h": (s.h, t.h), "codes": (codes.z_st, codes.z_ts)}


def mixing(features_s: Tensor, features_t: Tensor, k: int = 10) -> float:
    """Mean share of the ``k`` nearest other points of a point that are of the other domain; about 1/2 where both are mixed."""
    points = torch.cat([features_s, features_t])
    side = torch.arange(len(points)) < len(features_s)
    nearest = torch.cdist(points, points).fill_diagonal_(float("inf")).topk(k, largest=False).indices
    return (side[nearest] != side[:, None]).double().mean().item()


def nearest_agreement(features_s: Tensor, features_t: Tensor, labels_s: Tensor, labels_t: Tensor) -> float:
    """Share of target points (N, size) whose nearest source point (M, size) has their class."""
    return accuracy(labels_s[torch.cdist(features_t, features_s).argmin(1)], labels_t)


def map_record(folder: Path, count: int = 300, seed: int = 0) -> dict:
    """t-SNE maps of ``count`` test images of each domain as a stored run sees them, with the numbers that belong beside them.

    "maps" has coordinates x and y, the source's points first, for "pixels", "h" and "codes". No image can be had from them.
    Raises RunError for a run that is none of CDLM and for domains with fewer images.
    """
    spec, model, source, target = load_trained(folder)
    if min(len(source.test), len(target.test)) < count:
        raise RunError(f"{count} images asked, of {len(source.test)} and {len(target.test)}")
    generator = torch.Generator().manual_seed(seed)
    chosen = [torch.randperm(len(d.test), generator=generator)[:count] for d in (source, target)]
    (x_s, y_s), (x_t, y_t) = ((d.test.images[i], d.test.labels[i]) for d, i in zip((source, target), chosen))
    views = paired_views(model, x_s, x_t, seed)
    planes = {name: embed_tsne(torch.cat(pair), seed, min(30.0, count / 2)) for name, pair in views.items()}
    numbers = {name: {"a_distance": round(proxy_a_distance(*pair, "rbf"), 3), "mixing": round(mixing(*pair), 3),
                      "nearest_agreement": round(nearest_agreement(*pair, y_s, y_t), 3)} for name, pair in views.items()}
    return {"seed": spec.seed, "count": count, "classes": torch.cat([y_s, y_t]).tolist(), "numbers": numbers,
            "maps": {name: {axis: [round(v, 1) for v in values] for axis, values in zip("xy", points.T.tolist())}
                     for name, points in planes.items()},
            "data": data_checksums(source, target), "provenance": provenance("cpu")}


def measure_maps(folders: Iterable[Path]) -> dict:
    """Maps of what stored runs see; see ``map_record``."""
    return measure_runs(folders, "maps", map_record)


# 83_inside: Aligned, and wrong: which classes

def confusion_record(folder: Path) -> dict:
    """How a stored run reads the target's test images: "confusion" counts them, (classes, classes), true by read.

    Raises RunError for a run that is none of CDLM.
    """
    spec, model, source, target = load_trained(folder)
    counts = confusion(predict(model.logits, target.test.images), target.test.labels, len(target.classes))
    return {"seed": spec.seed, "confusion": counts.tolist(), "data": data_checksums(source, target),
            "provenance": provenance("cpu")}


def measure_confusion(folders: Iterable[Path]) -> dict:
    """Confusions of stored runs; see ``confusion_record``."""
    return measure_runs(folders, "confusion", confusion_record)
