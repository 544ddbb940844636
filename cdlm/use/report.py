"""What can be measured of a stored run, and said of it, on one page.

Generated from book/src/88_report.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import Tensor

from cdlm.data.batches import normalize
from cdlm.evaluation.accuracy import accuracy, class_flips, confusion
from cdlm.evaluation.distances import a_distances
from cdlm.evaluation.readouts import in_batches, translations
from cdlm.evaluation.selection import label_free_scores, probabilities
from cdlm.files import RunError
from cdlm.model.normalization import facing
from cdlm.plotting import SOURCE_COLOR, image_rows, use_style
from cdlm.runs.folder import check_free
from cdlm.use.card import Told, card_of, tell_run
from cdlm.use.pages import (
    Page,
    Paragraph,
    Picture,
    Points,
    Section,
    Table,
    new_folder,
    write_page,
    written,
)
from cdlm.use.trust import RULE, learn_trust, reasons, signs

__all__ = ["report_of", "store_report"]


# 88_report: What can be measured now

class Seen(NamedTuple):
    """What a run's method says of test images: logits (N, classes) of the source's, of the
    target's, and of the target's by path, with what was read there, (N, C, H, W)."""

    source: Tensor
    target: Tensor
    paths: dict[str, Tensor]
    drawn: dict[str, Tensor]


def look(told: Told) -> Seen:
    """Show the test images to the method. Raises RunError where it answers no numbers."""
    def logits(side: str, images: Tensor) -> Tensor:
        with facing(told.method, side):
            return in_batches(lambda x: told.method.logits(normalize(x)), images)
    source, target = (logits("source", told.source.test.images),
                      logits("target", told.target.test.images))
    drawn = translations(told.method, told.source.train.images, told.target.test.images)
    paths = {path: in_batches(told.method.read, x) for path, x in drawn.items()}
    if not all(bool(x.isfinite().all()) for x in (source, target, *paths.values())):
        raise RunError("this model answers test images with what are no numbers; train again, "
                       "with lower learning rates")
    return Seen(source, target, paths, drawn)


# 88_report: For and against

SIGNS = {"source_accuracy": "accuracy on held-out source images",
         "estimate": "estimated accuracy on the target",
         "estimates_apart": "difference of two estimates",
         "shares_apart": "shares of predicted classes, away from the source's",
         "agreement": "agreement of the ways to read an image",
         "a_distance": "A-distance of the features",
         "behind_source_only": "estimated loss against source-only training"}


def sign_rows(found: Mapping[str, float]) -> list[list[str]]:
    """A row for each sign that was found and has a limit: value, limit, what it speaks
    for."""
    return [[SIGNS.get(rule.sign, rule.sign), f"{found[rule.sign]:.3f}",
             f"{'above' if rule.above else 'below'} {rule.limit:g}",
             "against" if rule.holds(found) else "for"]
            for rule in RULE if rule.sign in found]


def trust_section(told: Told, seen: Seen, distances: Mapping[str, float]) -> Section:
    """What speaks for and against trusting the run, and the estimate beside the truth."""
    trust = learn_trust(seen.source, told.source.test.labels)
    found = signs(trust, seen.target, seen.paths if told.method.draws else None,
                  distances.get("h"))
    against = reasons(found)
    truth = told.metrics.get("target_accuracy")
    beside = ("Its labels are known, and the accuracy is "
              f"{truth:.3f}." if truth is not None else "Its labels are not known.")
    verdict = ("Warning: do not rely on this model for the target without checking a sample "
               "of its answers." if against else
               "Nothing that was looked at speaks against this model. That is no proof.")
    return Section("What speaks for and against trusting it", [
        Paragraph(verdict), *([Points([f"{one[0].upper()}{one[1:]}." for one in against])]
                              if against else []),
        Table("Signs that need no target label", ["sign", "value", "speaks against if",
                                                  "here"], sign_rows(found)),
        Paragraph("By average thresholded confidence, an estimated "
                  f"{found['estimate']:.3f} of the target's test images are read right, by "
                  f"difference of confidences {found['other_estimate']:.3f}. {beside}"),
        Paragraph("Whether a training without adaptation would have done better cannot be "
                  "said from one run. How often such warnings were right is measured in the "
                  "book's chapter on trust.")])


# 88_report: Class by class

def labeled_rows(names: Sequence[str], counts: Tensor) -> list[list[str]]:
    """A row for each class, from counts (classes, classes) of true by read: images, share
    right, share of its answers that are right, and what it is mostly taken for."""
    def share(part: Tensor, whole: Tensor) -> str:
        return f"{part / whole:.3f}" if whole else "–"
    rows = []
    for i, name in enumerate(names):
        others = counts[i].clone()
        others[i] = 0
        wrong = f"{names[others.argmax()]} ({others.max():,})" if others.any() else "–"
        rows.append([name, f"{counts[i].sum():,}", share(counts[i, i], counts[i].sum()),
                     share(counts[i, i], counts[:, i].sum()), wrong])
    return rows


def unlabeled_rows(names: Sequence[str], logits: Tensor, source: Tensor) -> list[list[str]]:
    """A row for each class, from logits (N, classes) of images without labels and labels (M,)
    of the source: answers, their share, that in the source, and how sure they are."""
    sure, read = probabilities(logits).max(1)
    rows = []
    for i, name in enumerate(names):
        mine = sure[read == i]
        rows.append([name, f"{len(mine):,}", f"{len(mine) / len(read):.3f}",
                     f"{(source == i).double().mean():.3f}",
                     f"{mine.mean():.3f}" if len(mine) else "–"])
    return rows


MOST_CLASSES = 20                       # of a confusion that is shown whole


def class_sections(told: Told, logits: Tensor) -> list[Section]:
    """Class by class, and which are taken for which, as far as labels allow."""
    names = told.source.classes
    if not told.target.classes:
        rows = unlabeled_rows(names, logits, told.source.train.labels)
        return [Section("Classes", [Table(
            "What the target's test images are taken for; they have no labels",
            ["class", "answers", "share", "share in the source", "mean probability"], rows)])]
    counts = confusion(logits.argmax(1), told.target.test.labels, len(names))
    return [Section("Classes", [Table(
        "The target's test images by class", ["class", "images", "read right",
                                              "right when answered", "mostly taken for"],
        labeled_rows(names, counts))]), confusion_section(names, counts)]


def confusion_section(names: Sequence[str], counts: Tensor) -> Section:
    """Counts (classes, classes) as a table, or of many classes the most frequent errors."""
    if len(names) > MOST_CLASSES:
        rows = [[f"{names[flip.true]} for {names[flip.seen]}", f"{flip.count:,}",
                 f"{flip.share:.3f}"] for flip in class_flips(counts)[:MOST_CLASSES]]
        return Section("Confusion", [Table("The most frequent errors: a class, taken for "
                                           "another", ["error", "images", "share"], rows)])
    shares = (counts / counts.sum(1, keepdim=True).clamp_min(1)).double()
    return Section("Confusion", [Table(
        "Row: the class of a target image; column: what it was taken for",
        ["class", *names], [[name, *map(str, row)] for name, row in zip(names,
                                                                        counts.tolist())],
        [[round(value, 3) for value in row] for row in shares.tolist()])])


# 88_report: Pictures

def picture_of(figure: Figure, name: str, form: str, alt: str, caption: str) -> Picture:
    """A drawn figure as a picture for a page; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form, dpi=160, bbox_inches="tight",
                   metadata={"Date": None} if form == "svg" else {"Software": None})
    return Picture(name, buffer.getvalue(), form, alt, caption)


def loss_picture(log: Sequence[Mapping[str, float]]) -> Picture:
    """Each loss of a log over the steps, in a panel of its own."""
    names = [name for name in log[0] if name != "step"]
    steps = [row["step"] for row in log]
    high = -(-len(names) // 2)
    with rc_context():
        use_style()
        figure = Figure(figsize=(5.6, 1.5 * high + 0.3), layout="constrained")
        axes = list(figure.subplots(high, 2, squeeze=False).flat)
        for ax, name in zip(axes, names):
            ax.plot(steps, [row.get(name, math.nan) for row in log], color=SOURCE_COLOR)
            ax.set_title(name, fontsize="small")
            ax.tick_params(labelsize="small")
        for ax in axes[len(names):]:
            ax.set_axis_off()
        last = ", ".join(f"{name} {log[-1].get(name, math.nan):.3g}" for name in names)
        return picture_of(figure, "losses", "svg", f"Curves of {len(names)} losses over "
                          f"{steps[-1]} steps. At the end: {last}.",
                          "Losses during training, by step.")


def chosen_images(told: Told, logits: Tensor, count: int = 10, seed: int = 0) -> Tensor:
    """Indices of at most ``count`` test images: right ones, then wrong ones, at random;
    without labels the surest, then the least sure."""
    half = count // 2
    if not told.target.classes:
        order = probabilities(logits).max(1).values.argsort(descending=True)
        return order if len(order) <= count else torch.cat([order[:half], order[-half:]])
    order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(seed))
    right = (logits.argmax(1) == told.target.test.labels)[order]
    good, bad = order[right], order[~right]
    bad = bad[:max(half, count - len(good))]
    return torch.cat([good[:count - len(bad)], bad])


def translation_rows(told: Told, logits: Tensor, chosen: Tensor) -> list[list[str]]:
    """A row for each chosen image: its column, class, what it is read as, how surely."""
    names, (sure, read) = told.source.classes, probabilities(logits).max(1)
    return [[str(number), names[told.target.test.labels[i]] if told.target.classes else "–",
             names[read[i]], f"{sure[i]:.3f}"]
            for number, i in enumerate(chosen.tolist(), start=1)]


PATH_NAMES = {"x_t": "$x_t$", "x_hat_ts": r"$\hat x_{ts}$", "x_tilde_t": r"$\tilde x_t$"}


def translation_picture(told: Told, seen: Seen, chosen: Tensor) -> Picture:
    """The chosen images, (M,), as the classifier may see them, a row for each path."""
    with rc_context():
        use_style()
        ax = Figure(figsize=(5.6, 0.6 * len(seen.drawn))).subplots()
        image_rows({PATH_NAMES.get(path, path): x[chosen] for path, x in seen.drawn.items()},
                   ax)
        halves = ("first some that are read right, then some that are read wrong" if
                  told.target.classes else "first the surest, then the least sure")
        rows = ", ".join(seen.drawn)
        return picture_of(ax.figure, "translations", "png", f"{len(chosen)} target images in "
                          f"columns, {halves}. Rows: {rows}.", "Test images of the target, "
                          f"{halves}. Rows from the top: {rows}.")


def translation_section(told: Told, seen: Seen) -> Section:
    """Target images as the classifier sees them, failures among them."""
    read = seen.paths[told.method.paths[-1]]
    chosen = chosen_images(told, read)
    parts = [translation_picture(told, seen, chosen),
             Table("The columns of the picture", ["column", "class", "read as", "probability"],
                   translation_rows(told, read, chosen))]
    if told.target.classes and told.method.draws:
        labels = told.target.test.labels
        parts.append(Table("Share read right from one other draw of the noise, by what the "
                           "classifier reads", ["read", "accuracy"],
                           [[path, f"{accuracy(logits.argmax(1), labels):.3f}"]
                            for path, logits in seen.paths.items()]))
    return Section("Translations, with failures" if told.method.draws
                   else "Images, with failures", parts)


# 88_report: Distances and scores

def measured_distances(told: Told, most: int = 400, fewest: int = 10) -> dict[str, float]:
    """A-distances of the run: those that it has stored, else measured on test images; {} of
    too few."""
    if stored := told.metrics.get("a_distance"):
        return dict(stored)
    count = min(len(told.source.test), len(told.target.test), most)
    return {} if count < fewest else a_distances(
        told.method, told.source.test.images, told.target.test.images, count)


def distance_section(distances: Mapping[str, float]) -> Section:
    """How far apart the domains are, by what they are compared in."""
    return Section("Distance of the domains", [
        Table("Proxy A-distance: about 0 where the domains cannot be told apart, 2 where they "
              "always are", ["compared in", "A-distance"],
              [[name, f"{value:.3f}"] for name, value in distances.items()]),
        Paragraph("Small is necessary and not enough: classes that were exchanged are as "
                  "close as classes that match.")] if distances else
        [Paragraph("Not measured: there are too few test images.")])


def score_section(logits: Tensor, most: int = 2000, seed: int = 0) -> Section:
    """Scores that choose among snapshots without labels, on at most ``most`` images."""
    some = torch.randperm(len(logits), generator=torch.Generator().manual_seed(seed))[:most]
    if len(some) < 2:
        return Section("Scores without labels", [Paragraph("Not measured: one image only.")])
    return Section("Scores without labels", [
        Table(f"On {len(some):,} test images of the target; larger is better, and comparable "
              "between snapshots of one training only", ["score", "value"],
              [[name, f"{value:.3f}"] for name, value in
               label_free_scores(logits[some]).items()])])


# 88_report: The report

def report_of(told: Told) -> Page:
    """The card of a run, with all that can be measured of it now."""
    seen, distances = look(told), measured_distances(told)
    return card_of(told, [
        trust_section(told, seen, distances), *class_sections(told, seen.target),
        translation_section(told, seen), distance_section(distances),
        score_section(seen.target),
        Section("Training", [loss_picture(told.metrics["log"])])])


def store_report(folder: Path, out: Path, source: str | None = None,
                 target: str | None = None) -> Path:
    """Write the report of a run into the new folder ``out``: ``report.html``, all in one file,
    and ``README.md`` with its ``figures``.

    Whole or not at all. Raises RunError for what is no run in order, and where ``out`` is not
    free.
    """
    check_free(Path(os.path.abspath(out)))      # before data are read
    page = report_of(tell_run(folder, source, target))
    with new_folder(out) as place:
        (place / "report.html").write_text(written(page, "html"), encoding="utf-8")
        write_page(page, place)
    return out
