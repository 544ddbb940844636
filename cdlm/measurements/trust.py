"""Estimates of accuracy without labels, and warnings, of stored runs beside the truth.

Generated from book/src/86_trust.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from cdlm.data.domain import Split
from cdlm.evaluation.accuracy import accuracy
from cdlm.evaluation.distances import proxy_a_distance
from cdlm.evaluation.readouts import features_of, readouts
from cdlm.evaluation.selection import label_free_scores
from cdlm.evaluation.statistics import rounded
from cdlm.measurements.stored import load_labeled
from cdlm.methods.base import Method
from cdlm.methods.registry import build_config
from cdlm.provenance import provenance
from cdlm.runs.run import data_checksums, read_run
from cdlm.runs.spec import RunSpec
from cdlm.settings import flat
from cdlm.use.trust import (
    RULE,
    Rule,
    Trust,
    calibration_error,
    domain_logits,
    is_trusted,
    learn_trust,
    reliability,
    signs,
)

__all__ = [
    "ENDS",
    "WarningCount",
    "adapts",
    "compared_with_truth",
    "count_warnings",
    "feature_distance",
    "joined_trust",
    "measure_trust",
    "some_of",
    "trust_record",
]


# 86_trust: On all tasks

def some_of(split: Split, count: int, seed: int = 0) -> Split:
    """``count`` random images of a split with their labels; all, if there are fewer."""
    chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:count]
    return Split(split.images[chosen].contiguous(), split.labels[chosen])


def feature_distance(model: Method, source_images: Tensor, target_images: Tensor,
                     count: int = 400) -> float:
    """Proxy A-distance, Gaussian kernel, of the features of the first ``count`` byte images
    (N, C, H, W) of each domain, or as many as both have."""
    count = min(count, len(source_images), len(target_images))
    return proxy_a_distance(features_of(model, source_images[:count], "source"),
                            features_of(model, target_images[:count]), "rbf")


def compared_with_truth(trust: Trust, seen: Tensor, held: Tensor, logits: Tensor,
                        labels: Tensor) -> dict[str, object]:
    """What labels say of trust in the ``logits`` (N, classes) of target images, with
    ``labels`` (N,); ``seen`` (M, classes) and ``held`` (M,) are those of the source."""
    right, trusted = logits.argmax(1) == labels, is_trusted(trust, logits)
    bins = {f"{side}, {state}": reliability(*pair, temperature)
            for side, pair in (("source", (seen, held)), ("target", (logits, labels)))
            for state, temperature in (("raw", 1.0), ("scaled", trust.temperature))}
    return {"target_accuracy": accuracy(logits.argmax(1), labels),
            "trusted": {"count": int(trusted.sum()), "right": int((trusted & right).sum())},
            "others": {"count": int((~trusted).sum()), "right": int((~trusted & right).sum())},
            "calibration_error": {name: calibration_error(found)
                                  for name, found in bins.items()},
            "reliability": {name: rounded(found, 4) for name, found in bins.items()}}


def trust_record(folder: Path, count: int = 1000, seed: int = 0) -> dict[str, object]:
    """What can be known of a stored run without target labels, and, apart from it, what is
    true, on ``count`` random test images of each domain.

    Raises RunError as ``load_labeled`` does.
    """
    spec, model, source, target = load_labeled(folder)
    held, asked = some_of(source.test, count, seed), some_of(target.test, count, seed)
    seen = domain_logits(model, held.images, "source")
    logits = domain_logits(model, asked.images)
    trust = learn_trust(seen, held.labels)
    found = signs(trust, logits, readouts(model, source.train, asked.images, seed),
                  feature_distance(model, held.images, asked.images))
    names = {side: Path(getattr(spec, side)).name for side in ("source", "target")}
    return {"spec": asdict(spec) | names, "trust": asdict(trust), "signs": found,
            "scores": label_free_scores(logits),
            "images": {"source": len(held), "target": len(asked)},
            **compared_with_truth(trust, seen, held.labels, logits, asked.labels),
            "data": data_checksums(source, target),
            "trained": read_run(folder)[1]["provenance"]}


def adapts(spec: RunSpec) -> bool:
    """Whether a run makes any use of target images in training."""
    uses = {"source": (), "dann": ("weight",),
            "plain": ("reversal", "entropy", "self_training", "domain_statistics")}
    settings = flat(build_config(spec.method, spec.settings))
    return spec.method not in uses or any(settings[name] for name in uses[spec.method])


def joined_trust(found: list[dict]) -> dict:
    """A record of what ``trust_record`` has ``found`` of several runs.

    A run that adapts is compared with the source-only run of the same domains, steps and seed,
    if that is among them.
    """
    def task(run: dict) -> tuple:
        return tuple(run["spec"][name] for name in ("source", "target", "steps", "seed"))
    alone = {task(run): run for run in found if not adapts(RunSpec(**run["spec"]))}
    for run in found:
        other = alone.get(task(run), run)
        if other is not run:
            run["source_only_accuracy"] = other["target_accuracy"]
            run["signs"]["behind_source_only"] = (other["signs"]["estimate"]
                                                  - run["signs"]["estimate"])
    return {"measured": "trust", "rule": [one._asdict() for one in RULE], "runs": found,
            "provenance": provenance("cpu")}


def measure_trust(folders: Iterable[Path]) -> dict:
    """A record of estimates and warnings beside the truth, from stored runs of any method.

    Raises RunError as ``trust_record`` does.
    """
    return joined_trust([trust_record(folder) for folder in folders])


# how a run can have ended badly, by labels: what a warning ought to have warned of
ENDS: dict[str, Callable[[Mapping], bool]] = {
    "below 70 %": lambda run: run["target_accuracy"] < 0.7,
    "below source-only": lambda run: (run["target_accuracy"]
                                      < run.get("source_only_accuracy", 0.0)),
    "estimate off by 10 points": lambda run: (
        abs(run["signs"]["estimate"] - run["target_accuracy"]) > 0.1)}


class WarningCount(NamedTuple):
    """How warnings compare with bad ends, in numbers of runs."""

    runs: int
    warned: int
    bad: int
    both: int

    @property
    def precision(self) -> float:
        """The share of warned runs that ended badly; not a number without a warning."""
        return self.both / self.warned if self.warned else math.nan

    @property
    def recall(self) -> float:
        """The share of runs that ended badly that were warned of; not a number without
        one."""
        return self.both / self.bad if self.bad else math.nan


def count_warnings(runs: Sequence[Mapping], rule: Sequence[Rule] = RULE,
          ends: Iterable[str] = ENDS) -> WarningCount:
    """How often a rule warns of ``runs`` of the record, and how many of them came to one of
    the bad ``ends``."""
    warned = [any(one.holds(run["signs"]) for one in rule) for run in runs]
    bad = [any(ENDS[end](run) for end in ends) for run in runs]
    return WarningCount(len(runs), sum(warned), sum(bad), sum(map(min, warned, bad)))
