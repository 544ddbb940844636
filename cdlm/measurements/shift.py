"""How far domains are apart, on their pixels: distances, neighbors, shares, and the record of them.

Generated from book/src/62_domains.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from cdlm.data.archives import DataError
from cdlm.data.domain import Domain, Split, checksum
from cdlm.domains.catalog import check_classes, open_domain
from cdlm.evaluation.distances import proxy_a_distance
from cdlm.model.discrepancy import total_variation
from cdlm.provenance import provenance

__all__ = [
    "COUNTS",
    "FOLDS",
    "SHIFT_PAIRS",
    "VARIANTS",
    "class_shares",
    "comparable",
    "contact_sheet",
    "drawn_shift",
    "enough",
    "expected_best",
    "mean_image_distance",
    "measure_shift",
    "nearest_neighbor",
    "pair_shift",
    "pixel_facts",
    "subsample",
    "video_leak",
]


# 62_domains: Twelve domains and where they come from

def contact_sheet(domains: Mapping[str, Domain], count: int = 10,
                  side: int = 64) -> dict[str, Tensor]:
    """Rows for image_rows: of each domain ``count`` images to train, (count, 3, side, side)
    bytes, by its title.

    Where there are classes, they take turns; otherwise the images are spread evenly over the
    set.
    """
    rows = {}
    for domain in domains.values():
        labels, classes = domain.train.labels, len(domain.classes)
        if classes:
            chosen = [int((labels == i % classes).nonzero()[i // classes, 0])
                      for i in range(count)]
        else:
            chosen = torch.linspace(0, len(labels) - 1, count).long().tolist()
        images = domain.train.images[chosen].expand(-1, 3, -1, -1).float()
        rows[domain.title] = F.interpolate(images, (side, side), mode="nearest").to(
            torch.uint8)
    return rows


# 62_domains: Five numbers for a pair

def comparable(source: Domain, target: Domain) -> tuple[Split, Split, Split, Split]:
    """Source train and test, target train and test, all with the same channels
    (gray is repeated) and the same size.

    Raises ValueError where the sizes of the images differ.
    """
    splits = (source.train, source.test, target.train, target.test)
    if len({split.images.shape[2:] for split in splits}) > 1:
        raise ValueError(f"images of {source.name} and {target.name} differ in size: "
                         f"{[s.images.shape[2:] for s in splits]}")
    channels = max(split.images.shape[1] for split in splits)
    return tuple(Split(split.images.expand(-1, channels, -1, -1), split.labels)
                 for split in splits)


def subsample(split: Split, count: int, seed: int, skip: int = 0) -> Split:
    """``count`` random images of a split, fewer where there are not so many; the first
    ``skip`` of the draw are left out."""
    chosen = torch.randperm(len(split),
                            generator=torch.Generator().manual_seed(seed))[skip : skip + count]
    return Split(split.images[chosen], split.labels[chosen])


def pixel_facts(images: Tensor) -> dict[str, float]:
    """Mean and standard deviation of all pixels of images (N, C, H, W), bytes, as shares of
    255; and the share that is 0."""
    values = images.double() / 255
    return {"mean": values.mean().item(), "deviation": values.std(correction=0).item(),
            "black": (images == 0).double().mean().item()}


def mean_image_distance(a: Tensor, b: Tensor) -> float:
    """Root mean square difference of the mean images of bytes (N, C, H, W) and (M, C, H, W),
    as a share of 255."""
    return ((a.double().mean(0) - b.double().mean(0)) / 255).square().mean().sqrt().item()


def class_shares(labels: Tensor, classes: int) -> Tensor:
    """Shares (classes,) of the classes among labels (N,).

    Raises ValueError where a label is not known (-1).
    """
    if labels.min() < 0:
        raise ValueError("some labels are not known")
    return torch.bincount(labels, minlength=classes).double() / len(labels)


def nearest_neighbor(train: Split, test: Split) -> float:
    """Accuracy on ``test`` of giving each image the label of the nearest image of ``train``,
    by Euclidean distance of pixels."""
    x, q = (split.images.flatten(1).numpy() / np.float32(255) for split in (train, test))
    return float(KNeighborsClassifier(1, algorithm="brute").fit(x, train.labels.numpy()).score(
        q, test.labels.numpy()))


COUNTS = {"count": 400, "gallery": 2000, "queries": 1000}
FOLDS = 5               # of the cross-validation of the A-distance


def enough(source: Domain, target: Domain, *counts: int) -> int:
    """The least of some counts of images. Raises DataError if the A-distance takes more."""
    if min(counts) < FOLDS:
        raise DataError(f"of {source.name} and {target.name} {min(counts)} images to train can"
                        f" be compared, and the A-distance takes {FOLDS}")
    return min(counts)


def pair_shift(source: Domain, target: Domain, seed: int, count: int = COUNTS["count"],
               gallery: int = COUNTS["gallery"],
               queries: int = COUNTS["queries"]) -> dict[str, object]:
    """How far two domains are apart, on random images: to train ``count`` (A-distance) and
    ``gallery``, to test ``queries``.

    A domain compared with itself gives disjoint images, as a control. Accuracies are left out
    where labels are not known. Raises DataError where there are too few images.
    """
    s_train, s_test, t_train, t_test = comparable(source, target)
    skip = gallery if source is target else 0
    s, t = subsample(s_train, gallery, seed), subsample(t_train, gallery, seed, skip)
    q_s, q_t = subsample(s_test, queries, seed), subsample(t_test, queries, seed)
    least = enough(source, target, count, len(s), len(t))
    x_s, x_t = s.images[:least].double() / 255, t.images[:least].double() / 255
    facts = {"seed": seed, "images": {"a_distance": least, "gallery": [len(s), len(t)],
                                      "queries": [len(q_s), len(q_t)]},
             "a_distance": {kernel: proxy_a_distance(x_s, x_t, kernel, FOLDS, seed=seed)
                            for kernel in ("linear", "rbf")},
             "pixels": {"source": pixel_facts(s.images), "target": pixel_facts(t.images)},
             "mean_image_distance": mean_image_distance(s.images, t.images)}
    if min(s_train.labels.min(), t_train.labels.min()) >= 0:
        check_classes(source, target)
        facts["nearest"] = {"source to source": nearest_neighbor(s, q_s),
                            "source to target": nearest_neighbor(s, q_t),
                            "target to target": nearest_neighbor(t, q_t)}
        shares = [class_shares(split.labels, len(source.classes))
                  for split in (s_train, t_train)]
        facts["class_shares"] = {"source": shares[0].tolist(), "target": shares[1].tolist(),
                                 "total_variation": total_variation(*shares).item()}
    return facts


# 62_domains: The record of the whole sets

# names of this record: a domain with options
VARIANTS = {"fashionm-noise": ("fashionm", {"background": "noise"})}
SHIFT_PAIRS = (("mnist", "usps"), ("usps", "mnist"), ("mnist", "optdigits"),
               ("optdigits", "mnist"), ("mnist", "mnistm"), ("mnistm", "mnist"),
               ("fashion", "fashionm"), ("fashionm", "fashion"), ("fashion", "fashionm-noise"),
               ("fashionm-noise", "fashion"), ("linemod3d", "linemodreal"),
               ("faces", "sketches"), ("shoes", "edges"), ("mnist", "mnist"))


def video_leak(domain: Domain, seed: int) -> dict[str, float]:
    """Nearest neighbor within a filmed domain: with its split by time, and with as large a
    random split of the same images."""
    images, labels = (
        torch.cat([getattr(split, part) for split in (domain.train, domain.test)])
        for part in ("images", "labels"))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    train, test = (Split(images[part], labels[part])
                   for part in order.split([len(domain.train), len(domain.test)]))
    return {"seed": seed, "by time": nearest_neighbor(domain.train, domain.test),
            "at random": nearest_neighbor(train, test)}


def drawn_shift(domains: Mapping[str, Domain], pairs: Sequence[tuple[str, str]],
                settings: Mapping) -> dict[str, object]:
    """Pairs of opened domains, measured as ``settings`` say: seeds, and counts of images."""
    counts = {name: settings[name] for name in COUNTS}
    found = {"pairs": [{"source": a, "target": b,
                        "runs": [pair_shift(domains[a], domains[b], seed, **counts)
                                 for seed in settings["seeds"]]} for a, b in pairs]}
    if "linemodreal" in domains:
        filmed = domains["linemodreal"]
        found["video"] = [video_leak(filmed, seed) for seed in settings["seeds"]]
    return found


def measure_shift(
    pairs: Sequence[tuple[str, str]] = SHIFT_PAIRS, seeds: Sequence[int] = (0, 1, 2),
    size: str = "full", root: str | None = None, record: Mapping | None = None, **counts: int
) -> dict[str, object]:
    """A record of the shift of pairs, each with all seeds; ``counts`` as for pair_shift.

    Of an earlier ``record``, the other pairs stay. With ``size`` "full" everything that
    ``pairs`` name has to be on this machine; "best" takes what there is, and says so. Raises
    DataError, before it measures, where something is missing or the earlier record was made in
    another way.
    """
    settings, domains = {**COUNTS, **counts, "seeds": list(seeds)}, {}
    for name in sorted({name for pair in pairs for name in pair}):
        real, options = VARIANTS.get(name, (name, {}))
        domains[name] = open_domain(real, size, root, **options)
    new = {"settings": settings, **facts_of(domains), "provenance": provenance("cpu")}
    kept = unmeasured(record, pairs) if record else None
    if kept:
        check_joinable(kept, new)
    new |= drawn_shift(domains, pairs, settings)
    return joined(kept, new) if kept else new


def facts_of(domains: Mapping[str, Domain]) -> dict[str, object]:
    """What a record says of its domains: checksums of their images, how many, and of which
    shape."""
    return {"data": {f"{name}/{part}": checksum(getattr(domain, part))
                     for name, domain in domains.items() for part in ("train", "test")},
            "found": {name: {"size": domain.size, "train": len(domain.train),
                             "test": len(domain.test), "title": domain.title,
                             "shape": list(domain.train.images.shape[1:])}
                      for name, domain in domains.items()}}


def unmeasured(record: Mapping, pairs: Sequence[tuple[str, str]]) -> dict[str, object] | None:
    """What is left of a record without ``pairs``, or None.

    Raises DataError if it is no such record.
    """
    if missing := {"settings", "pairs", "data", "found", "provenance"} - record.keys():
        raise DataError(
            f"no record of shifts: it lacks {', '.join(sorted(missing))}; name another file")
    left = [pair
            for pair in record["pairs"] if (pair["source"], pair["target"]) not in set(pairs)]
    names = {pair[side] for pair in left for side in ("source", "target")}
    rest = {"settings": record["settings"], "provenance": record["provenance"], "pairs": left,
            "data": {key: value for key, value in record["data"].items()
                     if key.rpartition("/")[0] in names},
            "found": {key: value for key, value in record["found"].items() if key in names}}
    if "linemodreal" in names:
        rest["video"] = record.get("video", [])
    return rest if left else None


def check_joinable(kept: Mapping, new: Mapping) -> None:
    """Raise DataError unless two records have the same settings, and the same images where
    both have some."""
    instead = "name another file, or measure all pairs of this one that it concerns"
    if kept["settings"] != new["settings"]:
        raise DataError(f"the record was made with {kept['settings']}, "
                        f"this would be with {new['settings']}: {instead}")
    for key in sorted(kept["data"].keys() & new["data"].keys()):
        if kept["data"][key] != new["data"][key]:
            raise DataError(
                f"the record has other images of {key} than were found here: {instead}")


def joined(kept: Mapping, new: Mapping) -> dict[str, object]:
    """A record with what is new, each entry with its own provenance, in the order of
    SHIFT_PAIRS."""
    def own(entries: Sequence[Mapping]) -> list[dict]:
        return [{**entry, "provenance": new["provenance"]} for entry in entries]
    places = {pair: place for place, pair in enumerate(SHIFT_PAIRS)}
    pairs = sorted([*kept["pairs"], *own(new["pairs"])],
                   key=lambda pair: places.get((pair["source"], pair["target"]), len(places)))
    film = {"video": own(new["video"])} if "video" in new else {}
    return {**kept, **film, "pairs": pairs, "data": {**kept["data"], **new["data"]},
            "found": {**kept["found"], **new["found"]}}


# 62_domains: Leak 3: choosing on the test labels

def expected_best(p: float, images: int, looks: int) -> float:
    """Expected largest accuracy of ``looks`` independent measurements, each on ``images``
    images with true accuracy ``p``."""
    p = torch.tensor(p, dtype=torch.float64)
    counts = torch.arange(images, dtype=torch.float64)
    below = torch.distributions.Binomial(images, p).log_prob(counts).exp().cumsum(0).clamp(
        max=1)  # F(k), (images,)
    return ((1 - below**looks).sum() / images).item()
