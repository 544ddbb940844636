"""A model as a folder that others can load: configuration, weights, card.

Generated from book/src/88_report.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cdlm.data.domain import Domain
from cdlm.files import RunError, plain_size, read_json, write_json
from cdlm.methods.base import Method
from cdlm.methods.registry import METHODS, build_config
from cdlm.runs.folder import check_free
from cdlm.runs.run import load_run
from cdlm.runs.spec import RunSpec
from cdlm.settings import Images, SettingError, flat
from cdlm.shapes import Accuracy, RunConfig, Shape
from cdlm.training.checkpoints import content_digest, write_tensors
from cdlm.use.card import Told, card_of, tell_run
from cdlm.use.pages import new_folder, write_page

__all__ = ["Loaded", "load", "load_model", "spec_of", "store_model_folder"]


# 88_report: A folder that travels

class Scaling(Shape, extra="forbid"):
    """How bytes become what the network reads: (byte * factor - mean) / std."""

    rescale_factor: float
    image_mean: list[float]
    image_std: list[float]


class ModelConfig(Shape, extra="forbid"):
    """``config.json`` of a stored model."""

    format: Literal[1]
    model_type: str                     # the method, by its name in the registry
    architectures: list[str]
    settings: dict[str, bool | int | float | str]
    num_channels: Literal[1, 3]
    image_size: Literal[28, 32, 64]
    id2label: dict[str, str]
    label2id: dict[str, int]
    normalization: Scaling
    run: RunConfig                      # what the run was asked
    data: dict[str, str]
    accuracy: dict[str, Accuracy]
    provenance: dict[str, object]
    weights: str                        # SHA-256 of their names, shapes and values


MODEL_WEIGHTS = "model.safetensors"


def scaling(channels: int) -> dict[str, object]:
    """The one normalization there is, as the hub's image processors name its numbers."""
    return {"rescale_factor": 1 / 255, "image_mean": [0.5] * channels,
            "image_std": [0.5] * channels}


def config_of(told: Told) -> dict[str, object]:
    """What ``config.json`` of a stored model says."""
    spec, images, metrics, names = (told.spec, told.method.images, told.metrics,
                                    told.source.classes)
    asked = asdict(spec) | {"source": told.source.name, "target": told.target.name}
    return {"format": 1, "model_type": spec.method,
            "architectures": [type(told.method).__name__],
            "settings": flat(told.method.config), "num_channels": images.channels,
            "image_size": images.size, "id2label": {str(i): n for i, n in enumerate(names)},
            "label2id": {name: i for i, name in enumerate(names)},
            "normalization": scaling(images.channels), "run": asked, "data": metrics["data"],
            "accuracy": {role: metrics[f"{role}_accuracy"] for role in ("source", "target")
                         if f"{role}_accuracy" in metrics},
            "provenance": metrics["provenance"],
            "weights": content_digest(told.method.state_dict())}


def store_model_folder(folder: Path, out: Path) -> Path:
    """Store the model of a run as the new folder ``out``: ``config.json``,
    ``model.safetensors`` and its card, ``README.md``.

    Whole or not at all. Raises RunError for what is no run in order, and where ``out`` is not
    free.
    """
    check_free(Path(os.path.abspath(out)))      # before data are read
    told = tell_run(folder)
    with new_folder(out) as place:
        write_json(place / "config.json", config_of(told))
        write_tensors(place / MODEL_WEIGHTS, told.method.state_dict(), {"format": "pt"})
        write_page(card_of(told), place)
    return out


def contradiction(config: Mapping[str, object]) -> str:
    """What in a configuration contradicts the rest of it, or is not for this code; "" if
    nothing does."""
    names = config["id2label"]
    if set(names) != {str(number) for number in range(len(names))}:
        return "the classes of id2label are not numbered from 0 on"
    if config["label2id"] != {name: int(number) for number, name in names.items()}:
        return "label2id is not the inverse of id2label"
    if config["normalization"] != scaling(config["num_channels"]):
        return "it asks for another normalization than bytes / 127.5 - 1"
    if config["model_type"] != config["run"]["method"]:
        return "it names two methods"
    return ""


def read_config(folder: Path) -> dict:
    """The configuration of a stored model. Raises RunError for what is none, or damaged."""
    path = folder / "config.json"
    config = read_json(path, ModelConfig)
    if wrong := contradiction(config):
        raise RunError(f"{path} is damaged ({wrong}); get the folder again")
    return config


def read_weights(path: Path, digest: str) -> dict[str, Tensor]:
    """The weights of a stored model. Raises RunError for those that are damaged, or of
    another one."""
    try:
        plain_size(path)
        weights = load_file(path)
    except FileNotFoundError:
        raise RunError(f"{path} does not exist; get the folder again") from None
    except (SafetensorError, OSError, ValueError):
        raise RunError(f"{path} is damaged; get the folder again") from None
    if content_digest(weights) != digest:
        raise RunError(f"{path} is not what config.json beside it has a checksum of: damaged, "
                       "or of another model; get the folder again")
    if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
        raise RunError(f"{path} holds weights that are no numbers; get the folder again")
    return weights


def build_model(config: Mapping[str, object]) -> Method:
    """A method as a configuration wants it, with other weights. Raises ValueError or
    RunError."""
    settings = build_config(config["model_type"], config["settings"])
    images = Images(config["num_channels"], config["image_size"], len(config["id2label"]))
    return METHODS[config["model_type"]][0](settings, images)


def load_model(folder: Path) -> Method:
    """The method of a stored model, ready to be used; it gives the logits of the run that it
    was stored from, to the same bits.

    Raises RunError for whatever is not in order.
    """
    config = read_config(folder)
    weights = read_weights(folder / MODEL_WEIGHTS, config["weights"])
    try:
        with torch.device("meta"):                  # shapes alone, which take no memory
            wanted = build_model(config).state_dict()
    except (RunError, ValueError) as error:
        raise RunError(f"{folder / 'config.json'} is damaged: {error}; get the folder again"
                       ) from None
    if {n: x.shape for n, x in wanted.items()} != {n: x.shape for n, x in weights.items()}:
        raise RunError(f"{folder / MODEL_WEIGHTS} does not fit the networks of config.json "
                       "beside it; was one replaced?")
    with torch.random.fork_rng(devices=[]):         # the user's random numbers stay theirs
        method = build_model(config)
    method.load_state_dict(weights)
    return method.eval()


class Loaded(NamedTuple):
    """What there is in a folder of a run, or of a stored model, which has no domains with
    it."""

    spec: RunSpec
    method: Method
    source: Domain | None
    target: Domain | None


def load(folder: Path | str, source: str | None = None, target: str | None = None) -> Loaded:
    """A stored run, whose domains may have moved to ``source`` and ``target``, or a stored
    model. Raises RunError for whatever is not in order."""
    folder = Path(folder)
    if "model_type" not in read_json(folder / "config.json"):
        return Loaded(*load_run(folder, source, target))
    method = load_model(folder)
    return Loaded(spec_of(read_config(folder), folder), method, None, None)


def spec_of(config: Mapping[str, object], folder: Path) -> RunSpec:
    """What the run was asked that a model is from. Raises RunError for what no run can be
    asked."""
    try:
        return RunSpec(**config["run"])
    except SettingError as error:
        raise RunError(f"{folder / 'config.json'} is damaged: {error}; get the folder again"
                       ) from None
