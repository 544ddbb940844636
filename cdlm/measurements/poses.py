"""Poses of what a stored run draws, read by the nearest render; and accuracy by how much is visible.

Generated from book/src/84c_renders.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from cdlm.data.domain import Domain
from cdlm.data.search import Search
from cdlm.domains.linemod import LINEMOD_RECIPES, View, bop_parts
from cdlm.domains.render import sample_rotations
from cdlm.evaluation.accuracy import accuracy, predict
from cdlm.evaluation.readouts import encode_images, in_batches, pair_codes
from cdlm.files import RunError
from cdlm.measurements.drawings import to_bytes
from cdlm.measurements.stored import load_labeled, load_trained, measure_runs
from cdlm.methods.base import Method
from cdlm.model.normalization import facing
from cdlm.provenance import provenance
from cdlm.runs.run import data_checksums
from cdlm.runs.spec import RunSpec

__all__ = [
    "EDGES",
    "Posed",
    "SYMMETRIC",
    "by_visibility",
    "chance_turn",
    "check_linemod",
    "draw_times",
    "linemod_posed",
    "linemod_root",
    "linemod_views",
    "measure_poses",
    "measure_visible",
    "pair_turns",
    "pose_numbers",
    "pose_record",
    "posed_among",
    "read_poses",
    "redraw",
    "seen_rotation",
    "spread_in_pixels",
    "turn_between",
    "views_of",
    "visible_record",
]


# 84c_renders: By how much is visible

EDGES = (0.5, 0.7, 0.85, 0.95, 1.0)     # shares of an object that are visible


def check_linemod(spec: RunSpec, folder: Path) -> None:
    """Raise RunError for a run whose target is not LineMod's photographs."""
    if spec.target != "linemodreal":
        raise RunError(f"{folder} is a run on {spec.target}; give one on linemodreal")


def by_visibility(right: Tensor, visible: Tensor,
                  edges: Sequence[float] = EDGES) -> list[dict[str, float]]:
    """How many images lie between two edges of the visible share (N,), the upper one
    included, and how many of them are read ``right`` (N,)."""
    found = []
    for low, high in pairwise(edges):
        here = (visible > low) & (visible <= high)
        found.append({"above": low, "to": high, "images": int(here.sum()),
                      "right": int(right[here].sum())})
    return found


def visible_record(folder: Path) -> dict:
    """What a stored run on LineMod's photographs reads right, by how much of the object is
    visible. Raises RunError for a run of another target."""
    spec, method, source, target = load_labeled(folder)
    check_linemod(spec, folder)
    views = linemod_views(linemod_root())
    with facing(method, "target"):
        right = predict(method.logits, target.test.images) == target.test.labels
    return {"seed": spec.seed, "accuracy": right.double().mean().item(),
            "by_visibility": by_visibility(right, torch.tensor([v.visible for v in views])),
            "data": data_checksums(source, target), "provenance": provenance("cpu")}


def measure_visible(folders: Iterable[Path]) -> dict:
    """Accuracy by visible share of stored runs; see ``visible_record``."""
    return measure_runs(folders, "visible", visible_record)


def measure_poses(folders: Iterable[Path]) -> dict:
    """Poses of what stored runs draw; see ``pose_record``."""
    return measure_runs(folders, "poses", pose_record)


# 84c_renders: Do the drawings show other poses?

def turn_between(a: Tensor, b: Tensor) -> Tensor:
    """Angles (...) in degrees, in [0, 180], of the turns between rotations (..., 3, 3)."""
    cosine = ((a.double() * b.double()).sum((-2, -1)) - 1) / 2
    return cosine.clamp(-1, 1).acos().rad2deg()


def pair_turns(rotations: Tensor) -> Tensor:
    """Mean angle (Q,) between two of the G rotations (Q, G, 3, 3) of each query."""
    i, j = torch.triu_indices(rotations.shape[1], rotations.shape[1], 1)
    return turn_between(rotations[:, i], rotations[:, j]).mean(1)


# 84c_renders: A reader of poses, and when not to believe it

class Posed(NamedTuple):
    """Images whose poses are known."""

    images: Tensor      # (N, C, H, W) uint8
    labels: Tensor      # (N,)
    rotations: Tensor   # (N, 3, 3)


def read_poses(seen: Tensor, labels: Tensor, known: Tensor, gallery: Posed) -> Tensor:
    """Rotations (N, 3, 3) of the nearest render of the same object, for images seen as (N, d);
    the renders of the gallery are seen as (M, d)."""
    read = torch.empty(len(seen), 3, 3)
    for label in labels.unique():
        mine, theirs = labels == label, gallery.labels == label
        nearest = torch.cdist(seen[mine], known[theirs]).argmin(1)
        read[mine] = gallery.rotations[theirs][nearest]
    return read


# 84c_renders: Drawn again and again

@torch.no_grad()
def redraw(model: Method, images: Tensor, partners: Tensor, domain: str,
           generator: torch.Generator) -> dict[str, Tensor]:
    """What a model draws from bytes (N, C, H, W) of a domain once more, as bytes: "x_hat" with
    ``partners`` of the other domain, (N, C, H, W), "x_tilde" without."""
    other = "target" if domain == "source" else "source"
    own, theirs = (encode_images(model.encoder, x, domain=side)
                   for x, side in ((images, domain), (partners, other)))
    pair = (own, theirs) if domain == "source" else (theirs, own)
    codes = pair_codes(model, *pair, generator)
    z, u = ((codes.z_st, codes.u_s) if domain == "source" else (codes.z_ts, codes.u_t))
    return {name: to_bytes(in_batches(model.decoder, code.float()))
            for name, code in (("x_hat", z), ("x_tilde", u))}


def draw_times(model: Method, images: Tensor, partners: Tensor, domain: str, times: int,
               seed: int = 0) -> dict[str, Tensor]:
    """The same ``times`` over, (N, times, C, H, W), each time with new noise and with random
    ones of ``partners`` (M, C, H, W)."""
    generator, drawn = torch.Generator().manual_seed(seed), []
    for _ in range(times):
        chosen = torch.randint(len(partners), (len(images),), generator=generator)
        drawn.append(redraw(model, images, partners[chosen], domain, generator))
    return {name: torch.stack([one[name] for one in drawn], 1) for name in drawn[0]}


def views_of(model: Method, images: Tensor) -> dict[str, Tensor]:
    """Bytes (N, C, H, W) in the style of the source as numbers (N, d) to compare: "pixels",
    and the mean "code" of the model's encoder."""
    return {"pixels": images.flatten(1).float() / 255,
            "code": encode_images(model.encoder, images, domain="source").mu.float()}


def pose_numbers(model: Method, renders: Posed, queries: Posed, drawn: Mapping[str, Tensor],
                 gallery: Posed, known: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """Angles in degrees that the nearest render of ``gallery`` reads, by view.

    ``known`` are the views of the gallery, as ``views_of`` gives them. ``drawn`` are the
    ``renders`` ("same") and the ``queries`` ("trials") drawn several times (N, G, C, H, W).
    "reading" is the error on the renders themselves, "redrawn" on their drawings, "query" on
    those of the queries; "same" and "trials" are the angles between two drawings of one image.
    """
    plain, numbers = views_of(model, renders.images), {}
    for view in known:
        found = {"reading": turn_between(read_poses(plain[view], renders.labels, known[view],
                                                    gallery), renders.rotations).mean()}
        for spread, error, posed in (("same", "redrawn", renders),
                                     ("trials", "query", queries)):
            times = drawn[spread].shape[1]
            seen = views_of(model, drawn[spread].flatten(0, 1))[view]
            read = read_poses(seen, posed.labels.repeat_interleave(times), known[view],
                              gallery).unflatten(0, (-1, times))
            found[spread] = pair_turns(read).mean()
            found[error] = turn_between(read, posed.rotations[:, None]).mean()
        numbers[view] = {name: round(value.item(), 2) for name, value in found.items()}
    return numbers


# 84c_renders: The same on LineMod

def seen_rotation(rotation: Tensor, shift: Tensor) -> Tensor:
    """Rotations (n, 3, 3) of objects at shifts (n, 3) as a camera has them that looks straight
    at each object."""
    towards = shift / shift.norm(dim=1, keepdim=True)
    x, y, z = towards.unbind(1)
    zero = torch.zeros_like(x)
    # the smallest turn that takes the line of sight to (0, 0, 1), by Rodrigues
    cross = torch.stack([zero, zero, -x, zero, zero, -y, x, y, zero], 1).view(-1, 3, 3)
    turn = torch.eye(3) + cross + cross @ cross / (1 + z)[:, None, None]
    return turn @ rotation


def chance_turn(a: Posed, b: Posed) -> float:
    """Mean angle in degrees between an image of ``a`` and a random one of ``b`` of the same
    object."""
    return float(torch.stack([turn_between(r[None], b.rotations[b.labels == label]).mean()
                              for r, label in zip(a.rotations, a.labels)]).mean())


def spread_in_pixels(drawn: Tensor) -> float:
    """How far drawings (N, G, C, H, W) of one image lie from each other, in shares of how far
    they lie from those of other images: roots of mean squares, bytes."""
    x = drawn.float()
    return float(x.var(1).mean().sqrt() / x[:, 0].var(0).mean().sqrt())


SYMMETRIC = ("eggbox", "glue")      # look the same when turned by half


def linemod_root() -> Path:
    """The folder with LineMod. Raises NotFoundError with all places that were tried."""
    return Search().find(LINEMOD_RECIPES[0].resources[0])


def linemod_views(root: Path) -> list[View]:
    """Annotations of the photographs to test, in the order of the domain's images."""
    return sorted(bop_parts(root)[2], key=lambda view: view.frame)


def linemod_posed(root: Path, source: Domain, target: Domain) -> tuple[Posed, Posed, Posed]:
    """Renders to train, renders to test, and photographs to test, with their rotations, as the
    domains of LineMod have them.

    Raises RunError where annotations and images do not belong together.
    """
    ids = bop_parts(root)[0]
    views = linemod_views(root)
    if [ids.index(view.object_id) for view in views] != target.test.labels.tolist():
        raise RunError(f"the photographs are not those of {root}")
    posed = []
    for seed, split in enumerate((source.train, source.test)):
        generator = torch.Generator().manual_seed(seed)
        posed.append(Posed(split.images, split.labels, torch.cat([
            sample_rotations(int((split.labels == label).sum()), generator)
            for label in range(len(ids))])))
    seen = seen_rotation(*(torch.stack(part) for part in zip(
        *((view.rotation, view.shift) for view in views))))
    return *posed, Posed(target.test.images, target.test.labels, seen)


def posed_among(posed: Posed, kept: Sequence[int], count: int | None = None,
            seed: int = 0) -> Posed:
    """Those of ``posed`` whose label is among ``kept``, or ``count`` random ones of them."""
    chosen = torch.isin(posed.labels, torch.tensor(kept)).nonzero().flatten()
    if count is not None:
        order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(seed))
        chosen = chosen[order[:count]]
    return Posed(*(part[chosen] for part in posed))


def pose_record(folder: Path, count: int = 100, times: int = 8) -> dict:
    """Poses that can be read from what a stored run on LineMod draws, of ``count`` renders and
    as many photographs to test, each drawn ``times`` over; numbers only.

    Objects that look the same when turned by half are left out. Raises RunError for a run of
    other domains, and what ``load_trained`` raises.
    """
    spec, model, source, target = load_trained(folder)
    check_linemod(spec, folder)
    kept = [i for i, name in enumerate(source.classes) if name not in SYMMETRIC]
    gallery, renders, queries = linemod_posed(linemod_root(), source, target)
    gallery = posed_among(gallery, kept)
    renders, queries = (posed_among(posed, kept, count) for posed in (renders, queries))
    same = draw_times(model, renders.images, target.train.images, "source", times)
    trials = draw_times(model, queries.images, source.train.images, "target", times)
    known, found = views_of(model, gallery.images), {}
    for path in trials:
        drawn = {"same": same[path], "trials": trials[path]}
        read = predict(model.classifier, trials[path].flatten(0, 1))
        found[path] = {"views": pose_numbers(model, renders, queries, drawn, gallery,
                                             known),
                       "pixels": {name: round(spread_in_pixels(x), 4)
                                  for name, x in drawn.items()},
                       "read right": accuracy(read, queries.labels.repeat_interleave(times))}
    return {"seed": spec.seed, "count": count, "times": times,
            "objects": [source.classes[i] for i in kept],
            "chance": {"render": round(chance_turn(renders, gallery), 2),
                       "query": round(chance_turn(queries, gallery), 2)},
            "paths": found, "data": data_checksums(source, target),
            "provenance": provenance("cpu")}
