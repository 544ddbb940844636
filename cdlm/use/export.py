"""A stored run as files that run elsewhere, checked against PyTorch.

Generated from book/src/89_elsewhere.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cdlm.data.batches import normalize
from cdlm.evaluation.readouts import features_of
from cdlm.files import RunError, write_json
from cdlm.model.networks import Encoded
from cdlm.model.normalization import facing
from cdlm.runs.folder import check_free
from cdlm.settings import quoted
from cdlm.use.hub import store_model_folder
from cdlm.use.pages import new_folder
from cdlm.use.prediction import StoredModel, common_noise, open_model, partner, target_codes

__all__ = [
    "ByteClassifier",
    "ByteTranslator",
    "FORMATS",
    "FORMS",
    "Form",
    "LARGEST_GAP",
    "batch_program",
    "check_export",
    "export_facts",
    "export_model",
    "export_run",
    "largest_gap",
    "need_packages",
    "random_inputs",
    "read_onnx",
    "read_program",
    "store_network",
    "write_onnx",
    "write_program",
]


# 89_elsewhere: What has to be in the file

def probe_layer(model: StoredModel, count: int = 1000) -> nn.Linear:
    """The regression that reads "h" in ``feature_reader`` with seed 0, as one layer: features
    (n, numbers) to class logits (n, classes), float64. A class that it has not seen has
    -1e4."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    source, draws = model.source.train, torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(source), generator=draws)[:count]
    seen = features_of(model.method, source.images[chosen].to(model.device), "source")
    scaler, probe = StandardScaler(), LogisticRegression(max_iter=2000)
    probe.fit(scaler.fit_transform(seen.flatten(1).double().cpu().numpy()),
              source.labels[chosen].numpy())
    weight, offset = probe.coef_ / scaler.scale_, probe.intercept_
    offset = offset - weight @ scaler.mean_
    if len(probe.classes_) == 2:        # which scikit-learn tells by one row
        weight, offset = (np.concatenate([0 * part, part]) for part in (weight, offset))
    layer = nn.Linear(weight.shape[1], len(model.source.classes), dtype=torch.float64)
    layer.requires_grad_(False)
    layer.weight.zero_(), layer.bias.fill_(-1e4)
    layer.weight[probe.classes_] = torch.from_numpy(weight)
    layer.bias[probe.classes_] = torch.from_numpy(offset)
    return layer.to(model.device)


class ByteClassifier(nn.Module):
    """Images as bytes (N, C, H, W) to class probabilities (N, classes) along a path of a
    stored model, at the mean of the code. Raises RunError for a path that it does not have."""

    def __init__(self, model: StoredModel, path: str | None = None) -> None:
        super().__init__()
        self.path = path or model.method.paths[-1]
        if self.path not in model.paths:
            raise RunError(f"{model.folder} was trained by {model.spec.method}, which has no "
                           f"path {quoted(self.path)}; it has {', '.join(model.paths)}")
        self.model, self.method = model, model.method
        self.probe = probe_layer(model) if self.path == "h" else None
        self.drawn = self.path in ("x_hat_ts", "x_tilde_t")
        self.register_buffer("eps", common_noise(model) if self.drawn else None)
        other = partner(model) if self.path == "x_hat_ts" else [None] * len(Encoded._fields)
        for name, value in zip(Encoded._fields, other):
            self.register_buffer(f"other_{name}", value)

    def forward(self, images: Tensor) -> Tensor:
        x = normalize(images)
        if self.path == "h":
            h = self.method.features(x).flatten(1)
            return self.probe(h.double()).softmax(1).float()
        if self.drawn:
            other = [getattr(self, f"other_{name}") for name in Encoded._fields]
            x = self.method.decoder(target_codes(
                self.model, x, self.eps, None if other[0] is None else Encoded(*other)))
        return self.method.read(x).softmax(1)


class ByteTranslator(nn.Module):
    """Target images as bytes (N, C, H, W), and noise (N, latent) for their codes, to
    source-like drawings x_tilde_t (N, C, H, W) from 0, black, to 1. Raises RunError for a
    method that draws nothing."""

    def __init__(self, model: StoredModel) -> None:
        super().__init__()
        if not model.method.draws:
            raise RunError(f"{model.folder} was trained by {model.spec.method}, which draws "
                           "no images from modulated codes")
        self.model, self.method = model, model.method

    def forward(self, images: Tensor, noise: Tensor) -> Tensor:
        return (self.method.decoder(
            target_codes(self.model, normalize(images), noise)) + 1) / 2


# 89_elsewhere: From a network to a program

def batch_program(network: nn.Module,
                  inputs: Sequence[Tensor]) -> torch.export.ExportedProgram:
    """What a network computes from target images, as a program of tensors for any number of
    them, without a trace of the files that it came from."""
    batch = torch.export.Dim("batch")
    with facing(network, "target"), torch.no_grad():
        program = torch.export.export(network.eval(), tuple(inputs),
                                      dynamic_shapes=tuple({0: batch} for _ in inputs))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def need_packages(names: Iterable[str]) -> None:
    """Raise RunError for the first of some packages that is not installed."""
    for name in names:
        if find_spec(name) is None:
            raise RunError(f"this format needs the package {name}, which is not installed: "
                           'pip install "cdlm[export]"')


def write_onnx(program: torch.export.ExportedProgram, path: Path, names: Sequence[str],
               facts: Mapping[str, object]) -> None:
    """Write a program as ONNX: ``names`` are those of its inputs and of its one output."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")         # about what is of no concern to users
        found = torch.onnx.export(program, dynamo=True, input_names=names[:-1],
                                  output_names=names[-1:], verbose=False)
    for node in found.model.graph.all_nodes():
        node.metadata_props.clear()             # from which line of which file it came
    found.model.metadata_props.update({name: json.dumps(value)
                                       for name, value in facts.items()})
    found.save(path, external_data=False)


def read_onnx(path: Path) -> Callable[..., Tensor]:
    """The function that an ONNX file holds, as ONNX Runtime computes it on the CPU."""
    import onnxruntime as runtime  # optional

    runtime.set_default_logger_severity(3)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    def compute(*inputs: Tensor) -> Tensor:
        fed = {name: value.numpy() for name, value in zip(names, inputs)}
        return torch.from_numpy(session.run(None, fed)[0])
    return compute


def write_program(program: torch.export.ExportedProgram, path: Path, names: Sequence[str],
                  facts: Mapping[str, object]) -> None:
    """Write a program for PyTorch, with ``facts`` as a file facts.json in it."""
    torch.export.save(program, path, extra_files={"facts.json": json.dumps(facts)})


def read_program(path: Path) -> Callable[..., Tensor]:
    """The function that a program of torch.export is. Only for files that you trust."""
    return torch.export.load(path).module()


class Form(NamedTuple):
    """A format: how its files end, what it needs, how they are written, and read."""

    ending: str
    packages: tuple[str, ...]
    write: Callable[..., None]
    read: Callable[[Path], Callable[..., Tensor]]


FORMS = {"onnx": Form(".onnx", ("onnx", "onnxscript", "onnxruntime"), write_onnx, read_onnx),
         "torch-export": Form(".pt2", (), write_program, read_program)}
FORMATS = (*FORMS, "safetensors")


LARGEST_GAP = 1e-5


def random_inputs(network: nn.Module, count: int, seed: int = 0) -> list[Tensor]:
    """Inputs of an exported network for ``count`` images: bytes, and noise for a
    translator."""
    generator = torch.Generator().manual_seed(seed)
    shape, config = network.model.shape, network.method.config
    inputs = [torch.randint(256, (count, *shape), dtype=torch.uint8, generator=generator)]
    if isinstance(network, ByteTranslator):
        inputs.append(torch.randn(count, config.networks.latent, generator=generator))
    return inputs


@torch.no_grad()
def largest_gap(network: nn.Module, other: Callable[..., Tensor],
                counts: Sequence[int] = (1, 2, 7, 32)) -> float:
    """The largest difference between what a network and another function make of random
    inputs, for several numbers of images; infinite where one is no number."""
    gaps = [(network(*inputs) - other(*inputs)).abs().max().item()
            for inputs in (random_inputs(network, count, count) for count in counts)]
    return max(gap if math.isfinite(gap) else math.inf for gap in gaps)


def export_facts(network: nn.Module) -> dict[str, object]:
    """What somebody has to know who runs an exported network: what goes in and comes out, the
    classes by number, and where it is from."""
    model, drawing = network.model, isinstance(network, ByteTranslator)
    shape = " x ".join(map(str, model.shape))
    facts = {"images": f"uint8, N x {shape}, bytes from 0 (black) to 255, not normalized",
             "method": model.spec.method, "source": Path(model.spec.source).name,
             "target": Path(model.spec.target).name, "steps": model.spec.steps,
             "seed": model.spec.seed}
    if drawing:
        latent = model.method.config.networks.latent
        return facts | {"noise": f"float32, N x {latent}, zeros or standard normal",
                        "drawings": f"float32, N x {shape}, from 0 (black) to 1"}
    return facts | {"probabilities": f"float32, N x {len(model.source.classes)}, in the order "
                    "of classes", "classes": list(model.source.classes), "path": network.path}


def store_network(network: nn.Module, path: Path, form: Form) -> float:
    """Write a network in a format, read it back, and return the largest gap between the two.

    Raises RunError for one that is too large.
    """
    drawing = isinstance(network, ByteTranslator)
    names = ["images", "noise", "drawings"] if drawing else ["images", "probabilities"]
    form.write(batch_program(network, random_inputs(network, 2)), path, names,
               export_facts(network))
    if (gap := largest_gap(network, form.read(path))) > LARGEST_GAP:
        raise RunError(f"what {path.name} computes differs from PyTorch by {gap:.1e}, and may "
                       f"by {LARGEST_GAP:.0e}; nothing is written")
    return gap


def check_export(out: Path, form: str, path: str | None = None) -> None:
    """Raise RunError for a format that there is not, or whose packages are missing, and for a
    folder that is there."""
    if form not in FORMATS:
        raise RunError(f"unknown format {quoted(form)}; known: {', '.join(FORMATS)}")
    if path is not None and form not in FORMS:
        raise RunError(f"{form} stores the weights, from which all paths are read; "
                       "leave out the path")
    need_packages(FORMS[form].packages if form in FORMS else ())
    check_free(Path(os.path.abspath(out)))


def export_model(model: StoredModel, out: Path, form: str = "onnx",
                 path: str | None = None) -> dict[str, object]:
    """Store classifier, along a ``path``, and translator, if any, in the new folder ``out``;
    returns for each file its facts, and how far it is from PyTorch, as export.json has them.

    Raises RunError, and then leaves nothing behind.
    """
    check_export(out, form, path)
    model = replace(model, method=model.method.cpu())
    networks = {"classifier": ByteClassifier(model, path)}
    if model.method.draws:
        networks["translator"] = ByteTranslator(model)
    found = {}
    with new_folder(Path(out)) as place:
        for name, network in networks.items():
            file = name + FORMS[form].ending
            gap = store_network(network, place / file, FORMS[form])
            found[file] = export_facts(network) | {"largest gap": gap}
        write_json(place / "export.json", found)
    return found


def export_run(folder: Path, out: Path, form: str = "onnx", path: str | None = None,
               source: str | None = None) -> list[str]:
    """Store the model of a run in the new folder ``out``; returns a line for each file.

    Raises RunError for whatever is not in order, and then leaves nothing behind.
    """
    check_export(out, form, path)
    if form == "safetensors":
        store_model_folder(folder, out)
        return [f"{file.name}: {file.stat().st_size:,} bytes"
                for file in sorted(Path(out).iterdir()) if file.is_file()]
    found = export_model(open_model(folder, source), out, form, path)
    return [f"{file}: {facts.get('path', 'x_tilde_t')}, "
            f"{facts['largest gap']:.0e} from PyTorch" for file, facts in found.items()]
