"""Which snapshot to report: rules that need no target label, and the oracle, kept apart from them.

Generated from book/src/76_evaluation.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "RULES",
    "Selection",
    "bnm_score",
    "entropy_score",
    "information_score",
    "label_free_scores",
    "oracle",
    "probabilities",
    "select",
    "snd_score",
]


# 76_evaluation: Choosing without labels

def probabilities(logits: Tensor) -> Tensor:
    """Softmax in double precision, (N, classes).

    Raises ValueError for what is not a matrix with at least one row.
    """
    if logits.dim() != 2 or not len(logits):
        raise ValueError(f"logits have the shape {tuple(logits.shape)}, not (images, classes)")
    return logits.double().softmax(1)


def entropy_score(logits: Tensor) -> float:
    """Minus the mean entropy of the predictions (N, classes), in nats; in [-log classes, 0],
    larger is better."""
    return -float(torch.special.entr(probabilities(logits)).sum(1).mean())


def information_score(logits: Tensor) -> float:
    """Mutual information of image and predicted class (N, classes), in nats; in
    [0, log classes], larger is better."""
    p = probabilities(logits)
    return float(torch.special.entr(p.mean(0)).sum() - torch.special.entr(p).sum(1).mean())


def snd_score(logits: Tensor, temperature: float = 0.05) -> float:
    """Soft neighborhood density of predictions (N, classes), in nats; in [0, log(N - 1)],
    larger is better.

    Saito et al. (2021): mean entropy of the softmax, over all other images, of cosine
    similarity between predicted probabilities, divided by ``temperature``. Takes memory for N
    x N numbers. Raises ValueError for fewer than two images.
    """
    if len(logits) < 2:
        raise ValueError("one image has no neighbors")
    p = F.normalize(probabilities(logits), dim=1)
    similar = (p @ p.T / temperature).fill_diagonal_(-math.inf)
    return float(torch.special.entr(similar.softmax(1)).sum(1).mean())


def bnm_score(logits: Tensor) -> float:
    """Nuclear norm of the predictions (N, classes) over its largest value; in (0, 1], larger
    is better.

    Cui et al. (2020) divide by N instead, which is the same order for a fixed set of images.
    It is at least 1 / classes.
    """
    p = probabilities(logits)
    return float(torch.linalg.matrix_norm(p, "nuc")) / math.sqrt(len(p) * min(p.shape))


# 76_evaluation: Predictions made to fool them

RULES: dict[str, Callable[[Tensor], float]] = {"entropy": entropy_score,
                                               "information": information_score,
                                               "snd": snd_score, "bnm": bnm_score}


def label_free_scores(logits: Tensor) -> dict[str, float]:
    """The score of each of ``RULES`` for logits (N, classes) of unlabeled target images."""
    return {name: score(logits) for name, score in RULES.items()}


# 76_evaluation: Rules and the oracle, kept apart

class Selection(NamedTuple):
    """The snapshot a rule takes: its place in the list, and whether target labels were used to
    find it."""

    rule: str
    index: int
    uses_target_labels: bool


def select(scores: Sequence[Mapping[str, float]], rule: str) -> Selection:
    """Choose among snapshots, in the order of training, by a rule that needs no target label.

    ``scores`` has the ``label_free_scores`` of each. ``rule`` is "last", or the name of a
    score: the first snapshot with the largest value. Raises ValueError for no snapshots, an
    unknown rule, scores that are not finite, and for "oracle", which is another function.
    """
    if rule == "oracle":
        raise ValueError(
            "the oracle needs target labels and is no selection rule: see `oracle`")
    if rule not in ("last", *RULES):
        raise ValueError(f"rule {rule!r}; there are last, {', '.join(RULES)}")
    if not scores:
        raise ValueError("no snapshots to choose from")
    if rule == "last":
        return Selection(rule, len(scores) - 1, False)
    values = [row[rule] for row in scores]
    if not all(map(math.isfinite, values)):
        raise ValueError(f"a {rule} score is not finite: {values}")
    return Selection(rule, values.index(max(values)), False)


def oracle(logits: Sequence[Tensor], target_labels: Tensor) -> Selection:
    """The first snapshot with the highest accuracy on ``target_labels`` (N,), given the logits
    (N, classes) of each.

    This is an upper end for what selection can do among these snapshots. It is not a result.
    """
    right = [int((part.argmax(1) == target_labels).sum()) for part in logits]
    return Selection("oracle", right.index(max(right)), True)
