"""How far to trust predictions without labels: calibration, estimated accuracy, and what speaks against a run.

Generated from book/src/86_trust.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor

from cdlm.data.batches import normalize
from cdlm.evaluation.readouts import in_batches
from cdlm.evaluation.selection import probabilities
from cdlm.methods.base import Method
from cdlm.model.discrepancy import total_variation
from cdlm.model.normalization import facing

__all__ = [
    "RULE",
    "Rule",
    "Trust",
    "calibration_error",
    "check_logits",
    "confidence",
    "confidence_estimate",
    "domain_logits",
    "estimated_accuracy",
    "fit_temperature",
    "is_trusted",
    "learn_trust",
    "path_agreement",
    "reasons",
    "reliability",
    "signs",
    "threshold_of",
]


# 86_trust: A problem of our own

def domain_logits(model: Method, images: Tensor, domain: str = "target") -> Tensor:
    """Class logits (N, classes) of byte ``images`` (N, C, H, W) of a domain in test mode."""
    with facing(model, domain):
        return in_batches(lambda x: model.logits(normalize(x)), images)


# 86_trust: A probability that means what it says

def check_logits(logits: Tensor, labels: Tensor | None = None) -> None:
    """Raise ValueError for what is not a matrix (N, classes) of finite numbers with at least
    one row, and for ``labels`` that are not (N,) integers in [0, classes)."""
    if logits.dim() != 2 or not logits.numel() or not bool(logits.isfinite().all()):
        raise ValueError("logits must be finite numbers (images, classes), of one image at "
                         f"least; these have the shape {tuple(logits.shape)}")
    if labels is not None and not (labels.shape == logits.shape[:1] and labels.min() >= 0
                                   and labels.max() < logits.shape[1]):
        raise ValueError(f"{len(logits)} images need as many labels, each from 0 to "
                         f"{logits.shape[1] - 1}")


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The T in [0.05, 20] whose softmax of ``logits`` / T makes the labels likeliest.

    Guo et al. (2017). ``logits`` (N, classes) are of held-out images, ``labels`` (N,). Raises
    ValueError as ``check_logits`` does.
    """
    check_logits(logits, labels)
    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(logits.double() / math.exp(log_temperature), labels))
    ends = math.log(0.05), math.log(20)
    between = minimize_scalar(loss, bounds=ends, method="bounded").x  # never an end itself
    return math.exp(min(between, *ends, key=loss))


def confidence(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """The largest class probability (N,) float64 of ``logits`` (N, classes) over a
    temperature; in [1 / classes, 1]."""
    check_logits(logits)
    return probabilities(logits.double() / temperature).max(1).values


def reliability(logits: Tensor, labels: Tensor, temperature: float = 1.0,
                bins: int = 10) -> Tensor:
    """How many predictions fall into each of ``bins`` of confidence, what their mean
    confidence is, and which share is right: (bins, 3) float64, zeros for an empty bin.

    ``logits`` (N, classes), ``labels`` (N,). Raises ValueError as ``check_logits`` does.
    """
    check_logits(logits, labels)
    sure, right = confidence(logits, temperature), (logits.argmax(1) == labels).double()
    place = (sure * bins).long().clamp(max=bins - 1)
    sums = torch.zeros(bins, 3, dtype=torch.float64).index_add_(
        0, place, torch.stack([torch.ones_like(sure), sure, right], 1))
    sums[:, 1:] /= sums[:, :1].clamp(min=1)
    return sums


def calibration_error(bins: Tensor) -> float:
    """Mean distance of confidence and accuracy over all predictions, by the bins (bins, 3) of
    ``reliability``; in [0, 1]."""
    return float((bins[:, 0] * (bins[:, 1] - bins[:, 2]).abs()).sum() / bins[:, 0].sum())


# 86_trust: Average thresholded confidence

@dataclass(frozen=True)
class Trust:
    """What held-out source images say of how sure a classifier has to be.

    ``threshold`` is in [0, 1], or 2 where no image was read right: no confidence reaches it.
    ``shares`` are those of the classes among the source's labels.
    """

    threshold: float                    # a confidence of at least this is trusted
    source_accuracy: float
    temperature: float = 1.0            # what logits are divided by
    source_confidence: float | None = None  # mean on the same images; None: not known
    shares: tuple[float, ...] = ()


def threshold_of(scores: Tensor, right: int) -> float:
    """The threshold that ``right`` of the ``scores`` (N,) reach, and more only where scores
    are equal; 2 for none of them."""
    return float(scores.sort(descending=True).values[right - 1]) if right else 2.0


def learn_trust(logits: Tensor, labels: Tensor) -> Trust:
    """Temperature and threshold from ``logits`` (N, classes) of held-out source images and
    their ``labels`` (N,).

    Garg et al. (2022), with the largest probability as the score. Raises ValueError as
    ``check_logits`` does.
    """
    temperature = fit_temperature(logits, labels)
    sure, right = confidence(logits, temperature), logits.argmax(1) == labels
    shares = torch.bincount(labels, minlength=logits.shape[1]).double() / len(labels)
    return Trust(threshold_of(sure, int(right.sum())), float(right.double().mean()),
                 temperature, float(sure.mean()), tuple(shares.tolist()))


def is_trusted(trust: Trust, logits: Tensor) -> Tensor:
    """Which of the predictions by ``logits`` (N, classes) are as sure as the threshold asks,
    (N,) bool."""
    return confidence(logits, trust.temperature) >= trust.threshold


def estimated_accuracy(trust: Trust, logits: Tensor) -> float:
    """Average thresholded confidence: the share of unlabeled images (N, classes) whose
    prediction is trusted, in [0, 1]."""
    return float(is_trusted(trust, logits).double().mean())


# 86_trust: Difference of confidences

def confidence_estimate(trust: Trust, logits: Tensor) -> float:
    """Difference of confidences: the accuracy on the source, minus by how much the mean
    confidence on unlabeled images (N, classes) is lower; in [0, 1].

    Guillory et al. (2021). Raises ValueError for a trust without ``source_confidence``.
    """
    if trust.source_confidence is None:
        raise ValueError("the mean confidence on the source is not known; use learn_trust")
    lower = trust.source_confidence - float(confidence(logits, trust.temperature).mean())
    return min(max(trust.source_accuracy - lower, 0.0), 1.0)


# 86_trust: Signs, and a rule

def path_agreement(paths: Mapping[str, Tensor]) -> float:
    """The share of images that all ``paths``, logits (N, classes) each, take for the same
    class, in [0, 1]."""
    read = torch.stack([logits.argmax(1) for logits in paths.values()])
    return float((read == read[0]).all(0).double().mean())


def signs(trust: Trust, logits: Tensor, paths: Mapping[str, Tensor] | None = None,
          a_distance: float | None = None, baseline: float | None = None) -> dict[str, float]:
    """What can be known of a run without target labels, by name, from the ``logits``
    (N, classes) of target images.

    ``paths`` are other readings of the same images, ``a_distance`` is that of the features,
    ``baseline`` the estimated accuracy of a source-only run on them; what is None is left out.
    """
    p = probabilities(logits / trust.temperature)
    estimate, other = estimated_accuracy(trust, logits), confidence_estimate(trust, logits)
    found = {"source_accuracy": trust.source_accuracy, "estimate": estimate,
             "other_estimate": other, "estimates_apart": abs(estimate - other),
             "entropy": float(torch.special.entr(p).sum(1).mean())}
    if trust.shares:
        predicted = torch.bincount(logits.argmax(1), minlength=logits.shape[1]).double()
        found["shares_apart"] = float(total_variation(
            predicted / len(logits), torch.tensor(trust.shares, dtype=torch.float64)))
    if paths:
        found["agreement"] = path_agreement(paths)
    if a_distance is not None:
        found["a_distance"] = a_distance
    if baseline is not None:
        found["behind_source_only"] = baseline - estimate
    return found


class Rule(NamedTuple):
    """A sign, the limit beyond which it speaks against a run, and the sentence that says
    so."""

    sign: str
    limit: float
    above: bool  # whether it speaks against the run above its limit, or below
    sentence: str

    def holds(self, found: Mapping[str, float]) -> bool:
        """Whether the sign is among those ``found``, and beyond the limit."""
        value = found.get(self.sign)
        return value is not None and (value > self.limit if self.above else value < self.limit)


RULE = (
    Rule("source_accuracy", 0.8, False,
         "on held-out source images, {value:.0%} are read right, less than {limit:.0%}: what "
         "is not learned there cannot be carried over"),
    Rule("estimate", 0.7, False,
         "an estimated {value:.0%} of the target images are read right, less than "
         "{limit:.0%}"),
    Rule("estimates_apart", 0.1, True,
         "two ways of estimating the accuracy differ by {points:.0f} points, so that neither "
         "is to be relied on"),
    Rule("shares_apart", 0.15, True,
         "{value:.0%} of the predictions would have to change for the classes to be as "
         "frequent as in the source: classes were merged, or the target has other shares"),
    Rule("agreement", 0.8, False,
         "the ways of reading a target image agree on {value:.0%} of the images only"),
    Rule("a_distance", 1.9, True,
         "a machine tells the features of the two domains apart almost without error "
         "(A-distance {value:.2f}): they were not aligned"),
    Rule("behind_source_only", 0.0, True,
         "training on the source alone is estimated to be better by {points:.0f} points: "
         "adapting may have done harm"),
)


def reasons(found: Mapping[str, float], rule: tuple[Rule, ...] = RULE) -> list[str]:
    """Sentences that speak against trusting a run whose ``signs`` were ``found``; none is no
    proof of the opposite."""
    return [one.sentence.format(value=found[one.sign], limit=one.limit,
                                points=100 * found[one.sign])
            for one in rule if one.holds(found)]
