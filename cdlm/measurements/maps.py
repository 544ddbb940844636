"""Where a stored run puts images, and which classes it takes for which, as records.

Generated from book/src/84_inside.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from cdlm.evaluation.accuracy import accuracy, confusion, predict
from cdlm.evaluation.distances import embed_tsne, proxy_a_distance
from cdlm.evaluation.readouts import encode_images, pair_codes
from cdlm.files import RunError
from cdlm.measurements.stored import load_trained, measure_runs
from cdlm.provenance import provenance
from cdlm.runs.run import data_checksums

__all__ = [
    "confusion_record",
    "map_record",
    "measure_confusion",
    "measure_maps",
    "mixing",
    "nearest_agreement",
    "paired_views",
]


# 84_inside: A map, and the numbers it needs

@torch.no_grad()
def paired_views(model: nn.Module, x_s: Tensor, x_t: Tensor,
                 seed: int = 0) -> dict[str, tuple[Tensor, Tensor]]:
    """Source and target as "pixels", as "h" and as "codes" z_st and z_ts, (N, size) float64
    each, from bytes (N, C, H, W)."""
    s, t = (encode_images(model.encoder, x_s, domain="source"),
            encode_images(model.encoder, x_t))
    codes = pair_codes(model, s, t, torch.Generator().manual_seed(seed))
    pixels = tuple(x.flatten(1).double() / 255 for x in (x_s, x_t))
    return {"pixels": pixels, "h": (s.h, t.h), "codes": (codes.z_st, codes.z_ts)}


def mixing(features_s: Tensor, features_t: Tensor, k: int = 10) -> float:
    """Mean share of the ``k`` nearest other points of a point that are of the other domain;
    about 1/2 where both are mixed."""
    points = torch.cat([features_s, features_t])
    side = torch.arange(len(points)) < len(features_s)
    nearest = torch.cdist(points, points).fill_diagonal_(float("inf")).topk(
        k, largest=False).indices
    return (side[nearest] != side[:, None]).double().mean().item()


def nearest_agreement(features_s: Tensor, features_t: Tensor, labels_s: Tensor,
                      labels_t: Tensor) -> float:
    """Share of target points (N, size) whose nearest source point (M, size) has
    their class."""
    return accuracy(labels_s[torch.cdist(features_t, features_s).argmin(1)], labels_t)


def map_record(folder: Path, count: int = 300, seed: int = 0) -> dict:
    """t-SNE maps of ``count`` test images of each domain as a stored run sees them, with the
    numbers that belong beside them.

    "maps" has coordinates x and y, the source's points first, for "pixels", "h" and "codes".
    No image can be had from them. Raises RunError for a run that is none of CDLM and for
    domains with fewer images.
    """
    spec, model, source, target = load_trained(folder)
    if min(len(source.test), len(target.test)) < count:
        raise RunError(f"{count} images asked, of {len(source.test)} and {len(target.test)}")
    generator = torch.Generator().manual_seed(seed)
    chosen = [torch.randperm(len(d.test), generator=generator)[:count]
              for d in (source, target)]
    (x_s, y_s), (x_t, y_t) = ((d.test.images[i], d.test.labels[i])
                              for d, i in zip((source, target), chosen))
    views = paired_views(model, x_s, x_t, seed)
    planes = {name: embed_tsne(torch.cat(pair), seed, min(30.0, count / 2))
              for name, pair in views.items()}
    numbers = {name: {"a_distance": round(proxy_a_distance(*pair, "rbf"), 3),
                      "mixing": round(mixing(*pair), 3),
                      "nearest_agreement": round(nearest_agreement(*pair, y_s, y_t), 3)}
               for name, pair in views.items()}
    return {"seed": spec.seed, "count": count, "classes": torch.cat([y_s, y_t]).tolist(),
            "numbers": numbers,
            "maps": {name: {axis: [round(v, 1) for v in values]
                            for axis, values in zip("xy", points.T.tolist())}
                     for name, points in planes.items()},
            "data": data_checksums(source, target), "provenance": provenance("cpu")}


def measure_maps(folders: Iterable[Path]) -> dict:
    """Maps of what stored runs see; see ``map_record``."""
    return measure_runs(folders, "maps", map_record)


# 84_inside: Aligned, and wrong: which classes

def confusion_record(folder: Path) -> dict:
    """How a stored run reads the target's test images: "confusion" counts them,
    (classes, classes), true by read.

    Raises RunError for a run that is none of CDLM.
    """
    spec, model, source, target = load_trained(folder)
    counts = confusion(predict(model.logits, target.test.images), target.test.labels,
                       len(target.classes))
    return {"seed": spec.seed, "confusion": counts.tolist(),
            "data": data_checksums(source, target), "provenance": provenance("cpu")}


def measure_confusion(folders: Iterable[Path]) -> dict:
    """Confusions of stored runs; see ``confusion_record``."""
    return measure_runs(folders, "confusion", confusion_record)
