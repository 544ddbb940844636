"""Every method as an estimator of scikit-learn.

Generated from book/src/89_elsewhere.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load as load_weights
from safetensors.torch import save as save_weights
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.metrics import accuracy_score
from sklearn.utils import _safe_indexing, check_array, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from cdlm.data.domain import Domain, OpenedDomain, Split
from cdlm.data.pictures import class_folders, read_picture
from cdlm.evaluation.readouts import features_of
from cdlm.methods.registry import METHODS, build_augment
from cdlm.model.normalization import facing
from cdlm.runs.run import check_work
from cdlm.runs.spec import RunSpec, build_method
from cdlm.settings import SettingError, flat, quoted
from cdlm.training.loop import Loop, train
from cdlm.training.team import Team
from cdlm.use.export import ByteTranslator
from cdlm.use.prediction import StoredModel, byte_reader, common_noise

__all__ = [
    "CDLMAdapter",
    "SIDES",
    "as_bytes",
    "brought_to",
    "from_dataset",
    "from_folder",
    "is_pixels",
    "laid_out",
    "parted",
    "range_of",
    "source_rows",
    "unpacked",
]


# 89_elsewhere: What counts as images

SIDES = (28, 32, 64)


def from_dataset(data: Sequence) -> tuple[np.ndarray, list]:
    """Images (N, ...) and labels of a dataset of torchvision: pairs of an image, as a picture,
    an array or a tensor, and a label. Raises ValueError for images of several shapes."""
    pairs = [data[number][:2] for number in range(len(data))]
    pictures = [np.asarray(image) for image, _ in pairs]
    if len({picture.shape for picture in pictures}) > 1:
        raise ValueError("the images of this dataset have several shapes; resize them in its "
                         "transform")
    return np.stack(pictures), [int(y) if isinstance(y, Tensor) else y for _, y in pairs]


def from_folder(folder: Path, size: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Images of a folder, bytes (N, 3, size, size), and the names of their classes if it has a
    folder for each. Raises DataError for what cannot be read."""
    groups = class_folders(folder)
    pictures = [read_picture(file, size) for files in groups.values() for file in files]
    labels = np.repeat(list(groups), [len(files) for files in groups.values()])
    return np.stack(pictures), None if "" in groups else labels


def unpacked(X: object, size: int | None) -> tuple[object, Sequence | None]:
    """What was given as an array, or whatever else scikit-learn can check, and labels if it
    had any: of a folder, a domain (its training images), a dataset, or a tensor."""
    if isinstance(X, str | os.PathLike):
        return from_folder(Path(X).expanduser(), size or SIDES[0])
    if isinstance(X, Domain):
        names = np.asarray(X.classes)[X.train.labels.numpy()] if X.classes else None
        return X.train.images.numpy(), names
    if isinstance(X, torch.utils.data.Dataset):
        return from_dataset(X)
    return (X.detach().cpu().numpy(), None) if isinstance(X, Tensor) else (X, None)


def is_pixels(values: np.ndarray) -> bool:
    """Whether values are pixels: whole numbers from 0 to 255, or floats from 0 to 1."""
    most = 255 if values.dtype.kind in "ui" else 1
    return values.dtype.kind == "b" or bool(values.min() >= 0 and values.max() <= most)


def range_of(arrays: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """The lowest and the highest value of measurements; None where all values are pixels."""
    if all(map(is_pixels, arrays)):
        return None
    low, high = min(float(x.min()) for x in arrays), max(float(x.max()) for x in arrays)
    return low, high if high > low else low + 1


def as_bytes(values: np.ndarray, span: tuple[float, float] | None) -> np.ndarray:
    """Values as bytes: pixels as they are, or measurements within a ``span``.

    Raises ValueError for values that are no pixels where there is no span.
    """
    if span is not None:
        share = (values.astype(np.float64) - span[0]) / (span[1] - span[0])
    elif not is_pixels(values):
        raise ValueError("fit saw images, whole numbers from 0 to 255 or floats from 0 to 1; "
                         f"these go from {values.min():g} to {values.max():g}")
    elif values.dtype.kind in "ui":
        return values.astype(np.uint8)
    else:
        share = values.astype(np.float64)
    return (share.clip(0, 1) * 255).round().astype(np.uint8)


def laid_out(values: np.ndarray) -> np.ndarray:
    """Bytes of any number of axes as images (N, C, H, W); what the axes are follows from their
    number and lengths. Raises ValueError for what is no image."""
    shape = values.shape
    if len(shape) == 3 or len(shape) == 4 and shape[1] in (1, 3):
        return values.reshape(len(values), -1, *shape[-2:])
    if len(shape) == 4 and shape[3] in (1, 3):
        return values.transpose(0, 3, 1, 2)
    if len(shape) != 2:
        raise ValueError(f"images of the shape {shape[1:]}; they must be (H, W), (C, H, W), "
                         "(H, W, C) or flat, in 1 or 3 colors")
    for channels in (1, 3):
        for side in SIDES:
            if shape[1] == channels * side**2:
                return values.reshape(-1, channels, side, side)
    side = math.ceil(math.sqrt(shape[1]))
    return np.pad(values, ((0, 0), (0, side**2 - shape[1]))).reshape(-1, 1, side, side)


def brought_to(images: np.ndarray, size: int | None) -> Tensor:
    """Bytes (N, C, H, W) as a tensor whose sides are ``size``, or by default their own if
    networks can take them, else 28."""
    height, width = images.shape[2:]
    if size is None:
        size = height if height == width and height in SIDES else SIDES[0]
    found = torch.from_numpy(images).clone(memory_format=torch.contiguous_format)
    if (height, width) == (size, size):
        return found
    return F.interpolate(found.float(), (size, size), mode="bilinear",
                         antialias=True).round().clamp(0, 255).byte()


# 89_elsewhere: Who is source, who is target

def source_rows(sample_domain: object, count: int) -> np.ndarray:
    """Which of ``count`` rows are the source's, (count,) bool: those of positive numbers.

    Raises ValueError for another number of entries, and for what is neither positive nor
    negative.
    """
    signs = np.asarray(sample_domain)
    if signs.shape != (count,) or signs.dtype.kind not in "iuf":
        raise ValueError(f"sample_domain has the shape {signs.shape} and the type "
                         f"{signs.dtype}; it must have a number for each of {count} rows")
    if not np.all((signs > 0) | (signs < 0)):
        raise ValueError("sample_domain must be positive for source rows and negative for "
                         "target rows")
    return signs > 0


def parted(X: object, y: object, sample_domain: object, X_t: object) -> tuple:
    """Source images, their labels, and target images: by sign of ``sample_domain``, or as they
    are. Of ``y`` only what belongs to the source is looked at.

    Raises ValueError for both ways at once, and where a domain is missing.
    """
    if sample_domain is None:
        return X, y, X if X_t is None else X_t
    if X_t is not None:
        raise ValueError("target images come as X_t or by sample_domain, not both")
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    is_source = source_rows(sample_domain, len(X))
    if not is_source.any():
        raise ValueError("sample_domain has no positive entry: without source there are no "
                         "labels to learn from")
    chosen = np.flatnonzero(is_source)
    others = np.flatnonzero(~is_source) if not is_source.all() else chosen
    return _safe_indexing(X, chosen), _safe_indexing(y, chosen), _safe_indexing(X, others)


# 89_elsewhere: The estimator

class WithSettings(BaseEstimator):
    """Parameters of the adapter, among them any setting of its method."""

    def __init__(self, method: str = "cdlm", steps: int = 1500, batch_size: int = 64,
                 path: str | None = None, size: int | None = None,
                 augment: dict | None = None, strong: dict | None = None,
                 device: str = "cpu", random_state: object = 0, seed: int | None = None,
                 **settings: object) -> None:
        self.method, self.steps, self.batch_size = method, steps, batch_size
        self.path, self.size, self.augment, self.strong = path, size, augment, strong
        self.device, self.random_state, self.seed = device, random_state, seed
        self._settings = settings

    def get_params(self, deep: bool = True) -> dict[str, object]:
        """All parameters by name, settings of the method among them."""
        return super().get_params(deep) | self._settings

    def set_params(self, **params: object) -> WithSettings:
        """Change parameters by name, which are not looked at before the fit. Raises
        SettingError for a name that the method does not have."""
        known = super().get_params()
        own = {name: value for name, value in params.items() if name in known}
        others = {name: value for name, value in params.items() if name not in own}
        method = own.get("method", self.method)
        known_method = isinstance(method, str) and method in METHODS
        has = flat(METHODS[method][1]()) if known_method else others
        if unknown := [name for name in others if name not in has]:
            raise SettingError(f"{method} has no setting {quoted(unknown[0])}; "
                               f"it has: {', '.join(has)}")
        vars(self).update(own)
        self._settings = self._settings | others
        return self


class Prepared(WithSettings):
    """What the adapter makes of its parameters and of its data before it learns."""

    def checked(self, X: object, as_fit: bool) -> np.ndarray:
        """An array as scikit-learn wants it; a flat one, ``as_fit`` if that saw flat ones, has
        the length that it saw."""
        if as_fit and np.asarray(X).ndim == 2:
            return validate_data(self, X, reset=False, allow_nd=True)
        return check_array(X, allow_nd=True)

    def spec_of(self) -> RunSpec:
        """The run that the parameters ask for. Raises SettingError for what none can be."""
        seed = self.random_state if self.seed is None else self.seed
        if not isinstance(seed, numbers.Integral):
            seed = check_random_state(seed).randint(2**31 - 1)
        plain = {name: value.item() if isinstance(value, np.generic) else value
                 for name, value in self._settings.items()}
        return RunSpec(self.method, "source", "target", int(seed), self.steps,
                       self.batch_size, plain, augment=dict(self.augment or {}),
                       strong=dict(self.strong or {}))


class Paired(Prepared):
    """What the adapter makes of both domains."""

    def pair_of(self, X_s: np.ndarray, y_s: np.ndarray,
                X_t: np.ndarray) -> tuple[OpenedDomain, OpenedDomain]:
        """Both domains, of the same size and number of colors, from arrays and classes."""
        images = [laid_out(as_bytes(x, self.range_)) for x in (X_s, X_t)]
        source = brought_to(images[0], self.size)
        target, colors = brought_to(images[1], source.shape[-1]), max(
            x.shape[1] for x in images)
        names, none = tuple(map(str, self.classes_)), torch.full((len(target),), -1)
        splits = (Split(x.expand(-1, colors, -1, -1), y) for x, y in
                  ((source, torch.from_numpy(np.searchsorted(self.classes_, y_s))),
                   (target, none)))
        return tuple(OpenedDomain(side, side, known, split, split, "arrays", "unknown", "full",
                                  "memory")
                     for side, known, split in zip(("source", "target"), (names, ()), splits))


class Fitted(Paired):
    """What a fitted adapter does with images of either domain."""

    def pixels_of(self, X: object) -> Tensor:
        """Images as the networks take them, bytes (N, C, H, W)."""
        check_is_fitted(self)
        values = self.checked(unpacked(X, self.size)[0], self.flat_)
        found = brought_to(laid_out(as_bytes(values, self.range_)), self.model_.shape[1])
        channels = self.model_.shape[0]
        if found.shape[1] not in (1, channels):
            raise ValueError(f"X has {found.shape[1]} colors, and fit saw {channels}")
        return found.expand(-1, channels, -1, -1)

    def told(self, X: object, sample_domain: object,
             ask: Callable[[Tensor, str], Tensor]) -> np.ndarray:
        """What ``ask(images, domain)`` says of images, those of each domain as such."""
        pixels = self.pixels_of(X)
        if sample_domain is None:
            return ask(pixels, "target").numpy()
        is_source = torch.from_numpy(source_rows(sample_domain, len(pixels)))
        parts = [(rows, ask(pixels[rows], side)) for rows, side in
                 ((is_source, "source"), (~is_source, "target")) if rows.any()]
        found = parts[0][1].new_empty(len(pixels), *parts[0][1].shape[1:])
        for rows, values in parts:
            found[rows] = values
        return found.numpy()


class Packed(Fitted):
    """How a fitted adapter is pickled, and unpickled."""

    def __getstate__(self) -> dict[str, object]:
        state = dict(super().__getstate__())
        if model := state.pop("model_", None):
            weights = {name: x.cpu().contiguous() for name, x in
                       model.method.state_dict().items()}
            state["packed_"] = model.spec, model.source, save_weights(weights)
        return state

    def __setstate__(self, state: dict[str, object]) -> None:
        state = dict(state)
        packed = state.pop("packed_", None)
        super().__setstate__(state)
        if packed:
            spec, source, weights = packed
            with torch.random.fork_rng(devices=[]):
                method = build_method(spec, source)
            method.load_state_dict(load_weights(weights))
            self.model_ = StoredModel(MEMORY, spec, method.eval().to(self.device), source)


MEMORY = Path("CDLMAdapter")            # what a message calls the run that is none


def learned(spec: RunSpec, source: OpenedDomain, target: Domain, path: str | None,
            device: str) -> tuple[StoredModel, list[dict]]:
    """A model trained as a spec says, and its log. Raises RunError for settings and paths that
    there are not."""
    check_work(spec, Team())
    with torch.random.fork_rng(devices=[]):
        model = StoredModel(MEMORY, spec, build_method(spec, source), source)
        if path not in (None, *model.paths):
            raise SettingError(f"path is {quoted(path)}; of {spec.method} it must be one of "
                               f"{', '.join(model.paths)}")
        loop = Loop(spec.steps, spec.seed, spec.batch_size, spec.steps,
                    augment=build_augment(spec.augment), strong=build_augment(spec.strong),
                    device=device)
        log = train(model.method, source, target, loop)
    if path not in ("h", "x_hat_ts"):
        none = Split(source.train.images[:0], source.train.labels[:0])
        model = replace(model, source=replace(source, train=none, test=none))
    return model, log


class Learning(Packed):
    """How an adapter learns."""

    __metadata_request__fit = {"sample_domain": True}

    def fit(self, X: object, y: object = None, sample_domain: object = None,
            X_t: object = None) -> Learning:
        """Learn from labeled source images and from target images without labels.

        Either ``X`` and ``y`` have rows of both, whose ``sample_domain`` is positive for the
        source and negative for the target, or ``X`` and ``y`` are the source and ``X_t`` is
        the target. Labels of target rows are not read. Raises ValueError, RunError.
        """
        X, own = unpacked(X, self.size)
        X_t = None if X_t is None else unpacked(X_t, self.size)[0]
        X, y, X_t = parted(X, own if y is None else y, sample_domain, X_t)
        X, y = validate_data(self, X, y, allow_nd=True)
        check_classification_targets(y)
        self.flat_ = X.ndim == 2
        X_t = self.checked(X_t, self.flat_)
        self.classes_, self.range_ = np.unique(y), range_of([X, X_t])
        if len(self.classes_) < 2:
            raise ValueError(f"the source has one class, {self.classes_[0]}; two are needed")
        pair = self.pair_of(X, y, X_t)
        self.model_, self.log_ = learned(self.spec_of(), *pair, self.path, self.device)
        self._n_features_out = self.transform_pixels(pair[0].train.images[:1]).shape[1]
        return self

    def transform_pixels(self, pixels: Tensor, domain: str = "target") -> Tensor:
        """Features (N, numbers) of images as bytes (N, C, H, W) of a domain."""
        found = features_of(self.model_.method, pixels.to(self.device), domain)
        return found.flatten(1).cpu()


class Drawing(Learning):
    """What a fitted adapter draws, if its method has a decoder, and which of its methods are
    told whose images come."""

    __metadata_request__predict = {"sample_domain": True}
    __metadata_request__predict_proba = {"sample_domain": True}
    __metadata_request__predict_log_proba = {"sample_domain": True}
    __metadata_request__transform = {"sample_domain": True}
    __metadata_request__score = {"sample_domain": True}

    def translate(self, X: object, random_state: object = None) -> np.ndarray:
        """Source-like drawings of target images, (N, C, H, W) from 0 to 1: at the mean of the
        code, or with a noise drawn for each from ``random_state``. Raises RunError for a
        method that draws nothing."""
        pixels = self.pixels_of(X)
        draw, eps = ByteTranslator(self.model_), common_noise(self.model_, len(pixels))
        if random_state is not None:
            draws = check_random_state(random_state).standard_normal(eps.shape)
            eps = torch.from_numpy(draws).to(eps)
        with torch.no_grad(), facing(self.model_.method, "target"):
            return draw(pixels.to(self.device), eps).cpu().numpy()


class CDLMAdapter(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClassifierMixin,
                  Drawing):
    """A method of this package as a classifier of scikit-learn.

    ``method``, ``steps``, ``batch_size``, ``augment``, ``strong`` and the settings of the
    method are as for ``cdlm train``. ``path`` is what is read ("x_t", "x_hat_ts", "x_tilde_t"
    or "h"), by default what the method is measured by, at the mean of the code; ``size`` is
    the side of the images. ``random_state`` is a number, a RandomState, or None for another
    one each time; ``seed`` is another name for it. Fitted, it has ``classes_``, ``model_``,
    ``log_`` and ``range_``.

    In all methods ``sample_domain`` says by its sign whose images come; by default all are
    the target's.
    """

    def __sklearn_tags__(self) -> object:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = []          # features are float32
        return tags

    def predict_log_proba(self, X: object, sample_domain: object = None) -> np.ndarray:
        """Logarithms of class probabilities, (N, classes), in the order of ``classes_``."""
        check_is_fitted(self)
        read = byte_reader(self.model_, self.path)
        return self.told(X, sample_domain, lambda *seen: read(*seen).double().log_softmax(1))

    def predict_proba(self, X: object, sample_domain: object = None) -> np.ndarray:
        """Class probabilities, (N, classes), in the order of ``classes_``."""
        return np.exp(self.predict_log_proba(X, sample_domain))

    def predict(self, X: object, sample_domain: object = None) -> np.ndarray:
        """The most probable class of each image, (N,)."""
        chosen = self.predict_log_proba(X, sample_domain).argmax(1)
        return self.classes_[chosen]

    def transform(self, X: object, sample_domain: object = None) -> np.ndarray:
        """The features h in which the method compares domains, (N, numbers)."""
        return self.told(X, sample_domain, self.transform_pixels)

    def score(self, X: object, y: object = None, sample_weight: object = None,
              sample_domain: object = None) -> float:
        """The share of images whose class is predicted; ``y`` may be left out where ``X``
        brings labels along."""
        y = unpacked(X, self.size)[1] if y is None else y
        return accuracy_score(y, self.predict(X, sample_domain), sample_weight=sample_weight)
