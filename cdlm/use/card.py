"""The model card of a run: what it is, for whom, where it fails, what it was made of.

Generated from book/src/88_report.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cdlm.data.domain import OpenedDomain
from cdlm.files import RunError
from cdlm.methods.base import Method
from cdlm.runs.run import data_checksums, load_run, read_run, same_data
from cdlm.runs.spec import RunSpec
from cdlm.use.pages import Page, Paragraph, Points, Section, Table

__all__ = ["Told", "accuracy_rows", "card_of", "front_of", "share_between", "tell_run"]


# 88_report: What is known without computing

class Told(NamedTuple):
    """A stored run with all that there is to tell of it: what it was asked, what it has
    measured, its method and its two domains."""

    spec: RunSpec
    metrics: dict
    method: Method
    source: OpenedDomain
    target: OpenedDomain

    @property
    def title(self) -> str:
        """What to call it."""
        return f"{type(self.method).__name__}: {self.source.title} to {self.target.title}"


def tell_run(folder: Path, source: str | None = None, target: str | None = None) -> Told:
    """A stored run, whose domains may have moved to ``source`` and ``target``.

    Raises RunError for whatever is not in order, and where the images are others.
    """
    spec, method, *pair = load_run(folder, source, target)
    metrics = read_run(folder)[1]
    if not same_data(metrics["data"], data_checksums(*pair)):
        raise RunError(f"the images are not those that {folder} was trained on; "
                       "name the place of those with --source and --target")
    return Told(spec, metrics, method, *pair)


def share_between(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95% interval of a ``share`` that was found among ``count`` images."""
    from scipy.stats import binomtest  # slow to load, and few commands need it

    found = binomtest(round(share * count), count).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def accuracy_rows(told: Told) -> list[list[str]]:
    """A row for each domain: its name, accuracy, interval, number of test images."""
    rows = []
    for role, domain in (("source", told.source), ("target", told.target)):
        count, share = len(domain.test), told.metrics.get(f"{role}_accuracy")
        between = ("–" if share is None else
                   "{:.3f} to {:.3f}".format(*share_between(share, count)))
        rows.append([f"{role}: {domain.title}", "–" if share is None else f"{share:.3f}",
                     between, f"{count:,}"])
    return rows


def model_section(told: Told) -> Section:
    """What it is, what goes in and what comes out."""
    spec, images = told.spec, told.method.images
    settings = ", ".join(f"{name} = {value}" for name, value in spec.settings.items())
    changes = ", ".join(f"{name} = {value}" for name, value in
                        {**spec.augment, **{f"strong {k}": v for k, v in spec.strong.items()}
                         }.items())
    rows = [["method", f"{spec.method} ({type(told.method).__name__})"],
            ["settings other than its defaults", settings or "none"],
            ["input", f"images of {images.size} x {images.size} pixels, {images.channels} "
                      f"channel{'s' * (images.channels > 1)}, bytes / 127.5 - 1"],
            ["output", f"logits of {images.classes} classes"],
            ["classes", ", ".join(told.source.classes)],
            ["what the classifier reads", told.method.paths[-1]],
            ["parameters", f"{sum(p.numel() for p in told.method.parameters()):,}"],
            ["steps", f"{spec.steps:,} of {spec.batch_size} images of each domain"],
            ["random changes to images", changes or "none"],
            ["seed", str(spec.seed)], ["arithmetic", spec.precision],
            ["weights", told.metrics.get("selection", "last iteration")]]
    return Section("Model", [
        Paragraph(f"A classifier for images like those of {told.target.title}. It was trained "
                  f"on images of {told.source.title} with their classes and on images of "
                  f"{told.target.title} without them."),
        Table("The model and its training", ["property", "value"], rows)])


def use_section(told: Told) -> Section:
    """What it may be used for, and what not."""
    return Section("Intended use", [Points([
        f"To sort images like those of {told.target.title} into the classes above, where "
        "a wrong answer is cheap or a person looks at it.",
        "To study domain adaptation.",
        "Not for images of another kind than the target's: it was adapted to one kind, and "
        "nothing is known of others.",
        "Not for decisions about people, or where a mistake does harm: nothing was measured "
        "that would allow it."])])


def limits_section(told: Told) -> Section:
    """Where it fails, or may."""
    size, classes = told.method.images.size, len(told.source.classes)
    known = ("The target accuracy was measured with labels of its test images. No target "
             "label was used in training." if "target_accuracy" in told.metrics else
             "The target has no labels, so how often it is right there is not known; what is "
             "said of it is an estimate.")
    return Section("Limits", [Points([
        known,
        f"It answers with one of {classes} classes whatever it is shown; there is no answer "
        "for none of them.",
        "If the classes have other shares in the target than in the source, adaptation can "
        "take one class for another and look well aligned.",
        f"Images are brought to {size} x {size} pixels; what is lost by that cannot be seen.",
        f"It is one training with one seed ({told.spec.seed}). Another seed gives another "
        "accuracy, and the intervals here do not cover that.",
        "Nothing was measured on groups of people, on damaged images, or on images made to "
        "deceive."])])


def results_section(told: Told) -> Section:
    """What the run has measured."""
    return Section("Results", [Table(
        "Share of test images that get their class, with Wilson's 95% interval",
        ["domain", "accuracy", "between", "images"], accuracy_rows(told))])


def data_section(told: Told) -> Section:
    """What it was made of."""
    roles = {"source": told.source, "target": told.target}
    rows = [[role, domain.title, f"{domain.size}, {len(domain.train):,} + "
             f"{len(domain.test):,} images", domain.origin, domain.license]
            for role, domain in roles.items()]
    sums = sorted(told.metrics["data"].items())
    left = [f"{role}: {len(domain.skipped)} damaged images were left out, first: "
            f"{domain.skipped[0]}" for role, domain in roles.items() if domain.skipped]
    return Section("Data", [
        Table("Images to train and to test from", ["role", "domain", "size", "origin",
                                                   "license"], rows),
        *([Points(left)] if left else []),
        Table("Checksums (SHA-256) of images and labels", ["split", "checksum"], sums)])


def license_section(told: Told) -> Section:
    """Under which terms."""
    return Section("License", [Paragraph(
        "Nobody has chosen a license for these weights. To give them away, choose one that "
        f"the licenses of the images allow ({told.source.title}: {told.source.license}; "
        f"{told.target.title}: {told.target.license}), and write it into the first lines of "
        "the card. Pictures on a page like this are images of these domains, and under their "
        "licenses.")])


def origin_section(told: Told) -> Section:
    """By which code and on what."""
    made = told.metrics["provenance"]
    rows = [[name, ", ".join(f"{k} {v}" for k, v in value.items())
             if isinstance(value, dict) else str(value)]
            for name, value in made.items() if name != "before"]
    return Section("Where it was made", [Table(
        "Versions, code and machine", ["property", "value"],
        [*rows, ["seconds", f"{told.metrics['seconds']:,}"]])])


USAGE = """\
import cdlm
from cdlm.data.batches import normalize

method = cdlm.load("FOLDER").method      # the folder of the run, or of the stored model
logits = method.logits(normalize(images))           # images: bytes, (N, channels, size, size)
"""
CITATION = """\
@article{hou2022cdlm,
  title   = {Variational Transfer Learning using Cross-Domain Latent Modulation},
  author  = {Hou, Jinyong and Deng, Jeremiah D. and Ding, Xuejie and Cranefield, Stephen},
  journal = {arXiv preprint arXiv:2205.15523},
  year    = {2022}
}
"""


def front_of(told: Told) -> dict[str, object]:
    """The first lines of a card on the hub: fields and values that its specification names."""
    found = [{"task": {"type": "image-classification", "name": "Image classification"},
              "dataset": {"type": domain.name, "name": f"{domain.title} ({role})",
                          "split": "test"},
              "metrics": [{"type": "accuracy", "value": told.metrics[f"{role}_accuracy"]}]}
             for role, domain in (("source", told.source), ("target", told.target))
             if f"{role}_accuracy" in told.metrics]
    return {"license": "unknown", "library_name": "cdlm",
            "pipeline_tag": "image-classification",
            "tags": ["domain-adaptation", "image-classification", told.spec.method],
            "metrics": ["accuracy"],
            "model-index": [{"name": told.title, "results": found}]}


def card_of(told: Told, measured: Sequence[Section] = ()) -> Page:
    """The model card of a run; sections of what was ``measured`` of it come after its
    results."""
    return Page(told.title, [
        model_section(told), use_section(told), limits_section(told), results_section(told),
        *measured, data_section(told), license_section(told), origin_section(told),
        Section("How to use it", [Paragraph(USAGE, verbatim=True)]),
        Section("Citation", [Paragraph(CITATION, verbatim=True)])], front_of(told))
