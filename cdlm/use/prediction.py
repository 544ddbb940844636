"""Classes of new images, read by a stored run: one row for each image.

Generated from book/src/87_own_images.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from cdlm.data.archives import user_path
from cdlm.data.batches import normalize
from cdlm.data.domain import OpenedDomain, checksum
from cdlm.domains.catalog import CATALOG, in_color
from cdlm.evaluation.readouts import encode_images, features_of, in_batches
from cdlm.files import RunError, json_text, need_folder, replacing
from cdlm.methods.base import Method
from cdlm.methods.cdlm import transfer_code
from cdlm.model.networks import Encoded
from cdlm.model.normalization import facing
from cdlm.runs.folder import WEIGHTS
from cdlm.runs.run import read_run, stored_weights
from cdlm.runs.spec import RunSpec, build_method, open_at, sizes_of
from cdlm.settings import quoted
from cdlm.use.images import Framing, Group, asked_images, pieces
from cdlm.use.trust import Trust, estimated_accuracy, is_trusted, learn_trust, reasons, signs

__all__ = [
    "Predictions",
    "StoredModel",
    "byte_reader",
    "check_new",
    "check_source",
    "common_noise",
    "csv_of",
    "feature_reader",
    "found_source",
    "json_of",
    "open_model",
    "partner",
    "path_reader",
    "predict_groups",
    "predict_run",
    "rows_of",
    "target_codes",
    "write_new",
]


# 87_own_images: A run without its target

@dataclass(frozen=True)
class StoredModel:
    """A trained method of a stored run, in test mode, with the source that it learned from."""

    folder: Path
    spec: RunSpec
    method: Method
    source: OpenedDomain

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images that it reads."""
        return tuple(self.source.train.images.shape[1:])

    @property
    def device(self) -> torch.device:
        """Where its networks are."""
        return next(self.method.parameters()).device

    @property
    def paths(self) -> tuple[str, ...]:
        """By what its images can be read, "h" being read by a regression."""
        return *self.method.paths, "h"


def found_source(folder: Path, spec: RunSpec, place: str | None) -> RunSpec:
    """The spec with the source where it is now. Raises RunError if it is not there."""
    name = place or spec.source
    if name not in CATALOG and not os.path.exists(user_path(name)):
        raise RunError(f"the source of {folder} was {name}, which is not to be found from "
                       "here; name its place with --source")
    return replace(spec, source=name)


def open_model(folder: Path, source: str | None = None, device: str = "cpu") -> StoredModel:
    """The model of a stored run, whose source may have moved to the place ``source``.

    Raises RunError for what is damaged, for a source whose images are other ones now, and what
    open_domain raises.
    """
    spec, metrics = read_run(folder)
    weights, spec = stored_weights(folder), found_source(folder, spec, source)
    known = open_at(spec.source, sizes_of(spec)[0])
    for channels in sorted({known.channels, 3}):    # 3 where only the target was in color
        seen = known if channels == known.channels else replace(
            known, train=in_color(known.train), test=in_color(known.test))
        method = build_method(spec, seen)
        with suppress(RuntimeError):
            method.load_state_dict(weights)
            break
    else:
        raise RunError(f"{folder / WEIGHTS} does not fit images of {spec.source}; "
                       "is that the source of this run?")
    check_source(folder, seen, metrics)
    return StoredModel(folder, spec, method.eval().to(device), seen)


def check_source(folder: Path, source: OpenedDomain, metrics: dict) -> None:
    """Raise RunError if the source has changed: names of classes may have moved. Older runs
    do not say which images they have seen."""
    stored = metrics["data"].get("source/train")
    if stored is not None and stored != checksum(source.train):
        raise RunError(f"the images of {source.name} are not those that {folder} has learned "
                       "from; name the place of those with --source")


# 87_own_images: Which noise?

@torch.no_grad()
def partner(model: StoredModel, seed: int | None = None, most: int = 2000) -> Encoded:
    """What modulates a target code, (1, latent) each: the mean over source images (at most so
    many, evenly spaced), or with a ``seed`` a random one of them."""
    images = model.source.train.images
    if seed is None:
        chosen = images[:: -(-len(images) // most)]
    else:
        at = torch.randint(len(images), (1,), generator=torch.Generator().manual_seed(seed))
        chosen = images[at]
    said = encode_images(model.method.encoder, chosen.to(model.device), domain="source")
    return Encoded(*(value.mean(0, keepdim=True).float() for value in said))


def common_noise(model: StoredModel, count: int = 1, seed: int | None = None) -> Tensor:
    """``count`` noises for a code, (count, latent): zeros, or with a ``seed`` normal ones."""
    shape = count, model.method.config.networks.latent
    if seed is None:
        return torch.zeros(shape, device=model.device)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(model.device)


def target_codes(model: StoredModel, x: Tensor, eps: Tensor,
                 other: Encoded | None = None) -> Tensor:
    """Codes (n, latent) of images (n, C, H, W) in [-1, 1]: u_t, or z_ts where there is an
    ``other`` that modulates; ``eps`` is (1, latent)."""
    own, config = model.method.encoder(x), model.method.config
    c, g = config.losses, config.weights
    if other is None:
        return g.gamma1 * own.h + g.gamma2 * eps
    return transfer_code(own, other, eps, c.modulation, g.gamma1, g.gamma2)


def feature_reader(model: StoredModel, seed: int = 0,
                   count: int = 1000) -> Callable[[Tensor], Tensor]:
    """A function from images in [-1, 1] to class log-probabilities (n, classes), by a logistic
    regression on standardized features of ``count`` random source images.

    A class that is not among these has -1e4.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    source, draws = model.source.train, torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(source), generator=draws)[:count]
    seen = features_of(model.method, source.images[chosen].to(model.device), "source")
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(
        seen.flatten(1).double().cpu().numpy(), source.labels[chosen].numpy())
    def ask(x: Tensor) -> Tensor:
        h = model.method.features(x).flatten(1).double().cpu().numpy()
        told = torch.full((len(x), len(model.source.classes)), -1e4)
        told[:, probe.classes_] = torch.from_numpy(probe.predict_log_proba(h)).float()
        return told
    return ask


def path_reader(model: StoredModel, path: str,
                seed: int | None = None) -> Callable[[Tensor], Tensor]:
    """A function from images in [-1, 1] to what a path says of them, (n, classes); "h" is
    fitted with seed 0 if there is no ``seed``. Raises RunError for a path that there is not.
    """
    if path not in model.paths:
        raise RunError(f"{model.folder} was trained by {model.spec.method}, which has no path "
                       f"{quoted(path)}; it has {', '.join(model.paths)}")
    method = model.method
    if path == "h":
        return feature_reader(model, seed or 0)
    if path == "x_t":
        return method.read
    eps = common_noise(model, seed=seed)
    other = partner(model, seed) if path == "x_hat_ts" else None
    return lambda x: method.read(method.decoder(target_codes(model, x, eps, other)))


def byte_reader(model: StoredModel, path: str | None = None,
                seed: int | None = None) -> Callable[..., Tensor]:
    """A function from images as bytes (n, C, H, W), and their domain if it is not "target", to
    logits (n, classes) on the CPU; ``path`` is by default the one the method is measured by.

    Raises RunError for a path that there is not.
    """
    ask = path_reader(model, path or model.method.paths[-1], seed)
    def read(images: Tensor, domain: str = "target") -> Tensor:
        with facing(model.method, domain):
            return in_batches(lambda part: ask(normalize(part.to(model.device))).float().cpu(),
                              images)
    return read


# 87_own_images: What is written

@dataclass(frozen=True)
class Predictions:
    """What was read: ``logits`` (N, classes) of named images, and messages on what was no
    image."""

    classes: tuple[str, ...]
    path: str
    files: list[str]
    logits: Tensor
    trust: Trust
    skipped: list[str]

    @property
    def estimated_accuracy(self) -> float:
        """What share of the predictions is right, as ``trust`` estimates without labels."""
        return estimated_accuracy(self.trust, self.logits)

    @property
    def doubts(self) -> list[str]:
        """Sentences that speak against these predictions; none for less than 100 images, of
        which too little can be said."""
        few = len(self.files) < 100
        return [] if few else reasons(signs(self.trust, self.logits))


def predict_groups(model: StoredModel, groups: Sequence[Group], path: str | None = None,
                   seed: int | None = None, framing: Framing | None = None,
                   skipped: list[str] | None = None) -> Predictions:
    """Read groups of images on a ``path``. What is no image raises DamagedError, or with a
    list ``skipped`` is told there.

    Raises RunError for a path that there is not, and if there is no image at all.
    """
    read, test = byte_reader(model, path, seed), model.source.test
    framing = framing or Framing(model.shape[1], model.shape[0])
    files, logits = [], []
    for group in groups:
        for names, images in pieces(group, framing, skipped):
            files += names
            logits.append(read(images))
    if not files:
        first = f": {skipped[0]}" if skipped else ""
        raise RunError(f"none of these {len(skipped or ())} files is an image{first}")
    trust = learn_trust(read(test.images, "source"), test.labels)
    return Predictions(model.source.classes, path or model.method.paths[-1], files,
                       torch.cat(logits), trust, skipped or [])


def predict_run(folder: Path, images: Sequence[str], path: str | None = None,
                seed: int | None = None, strict: bool = False, fit: str = "crop",
                ground: int = 255, source: str | None = None,
                device: str = "cpu") -> Predictions:
    """Predictions of a stored run for images: files, folders, archives, patterns, or names of
    domains. What is no image is left out and told, or with ``strict`` raises DamagedError.

    Raises RunError, DataError for whatever is not in order.
    """
    model = open_model(Path(folder), source, device)
    framing = Framing(model.shape[1], model.shape[0], fit, ground)
    with asked_images(images, model.shape) as groups:
        return predict_groups(model, groups, path, seed, framing, None if strict else [])


def rows_of(found: Predictions, top: int = 1) -> list[dict[str, object]]:
    """A row for each image: file, class, probability, entropy in nats, whether to trust it,
    and from the second on the ``top`` classes with their probabilities."""
    probabilities = found.logits.double().softmax(1)
    entropy = torch.special.entr(probabilities).sum(1).tolist()
    values, order = probabilities.sort(dim=1, descending=True, stable=True)
    count, trusted = min(top, len(found.classes)), is_trusted(found.trust, found.logits)
    rows = zip(found.files, order[:, :count].tolist(), values[:, :count].tolist(), entropy,
               trusted.tolist())
    return [{"file": file, "class": found.classes[best[0]], "probability": p[0],
             "entropy": doubt, "trust": sure}
            | {f"{word}_{place + 1}": value for place in range(1, count)
               for word, value in (("class", found.classes[best[place]]),
                                   ("probability", p[place]))}
            for file, best, p, doubt, sure in rows]


def csv_of(found: Predictions, top: int = 1) -> str:
    """The rows as CSV, under a line of names: numbers with four digits, trust as yes or no."""
    rows, text = rows_of(found, top), io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0])
    words = {True: "yes", False: "no"}
    for row in rows:
        writer.writerow(f"{value:.4f}" if isinstance(value, float)
                        else words.get(value, value) for value in row.values())
    return text.getvalue()


def json_of(found: Predictions, top: int = 1) -> str:
    """Rows, what was left out and why, path and trust, as JSON."""
    rows = [{name: round(value, 6) if isinstance(value, float) else value
             for name, value in row.items()} for row in rows_of(found, top)]
    return json_text({"path": found.path, "classes": found.classes, "predictions": rows,
                      "left_out": found.skipped,
                      "estimated_accuracy": found.estimated_accuracy, "doubts": found.doubts,
                      "source_accuracy": found.trust.source_accuracy,
                      "threshold": found.trust.threshold}, indent=1) + "\n"


def check_new(path: Path) -> None:
    """Raise RunError for a file or folder that is there already."""
    try:
        path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:            # a name that no file can have
        raise RunError(f"cannot write {path}: {error.strerror}; name another") from None
    raise RunError(f"{path} exists already; name another, or remove it")


def write_new(path: Path, text: str) -> None:
    """Write a text, whole or not at all, where there is nothing. Raises RunError where that
    cannot be."""
    check_new(path)
    need_folder(path.parent)
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from None
