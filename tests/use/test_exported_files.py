"""Models that run elsewhere: what is in a file, that it says the same, and what is refused before work."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import torch
from folders import content_of
from torch import Tensor

from cdlm.domains.samples import load_domain
from cdlm.files import RunError
from cdlm.runs.run import run
from cdlm.runs.spec import RunSpec
from cdlm.use import export
from cdlm.use.export import FORMS, ByteClassifier, ByteTranslator, batch_program, export_run, largest_gap, random_inputs
from cdlm.use.prediction import byte_reader, open_model

pytestmark = pytest.mark.slow

IMAGES = load_domain("optdigits").test.images[:60]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("runs")
    strong = {"degrees": 5.0}
    for name in ("cdlm", "improved", "plain"):
        run(RunSpec(name, "mnist", "optdigits", steps=5, batch_size=8, settings={"width": 2},
                    strong=strong if name == "improved" else {}), place / name)
    return {name: place / name for name in ("cdlm", "improved", "plain")}


@pytest.fixture(scope="module")
def onnx(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in FORMS["onnx"].packages:
        pytest.importorskip(name)
    out = tmp_path_factory.mktemp("onnx") / "improved"
    export_run(runs["improved"], out, "onnx")
    return out


@pytest.fixture(scope="module")
def program(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("program") / "plain"
    export_run(runs["plain"], out, "torch-export")
    return out


# What is computed


READ = [*(("cdlm", path) for path in ("x_t", "x_hat_ts", "x_tilde_t", "h")), ("improved", None), ("plain", "h")]


@pytest.mark.parametrize("name, path", READ)
def test_a_classifier_of_bytes_says_what_predict_says(runs: dict[str, Path], name: str, path: str | None) -> None:
    model = open_model(runs[name])
    with torch.no_grad():
        found = ByteClassifier(model, path).eval()(IMAGES)
    expected = byte_reader(model, path)(IMAGES).softmax(1)
    assert (found - expected).abs().max() < 1e-5
    assert torch.equal(found.argmax(1), expected.argmax(1))


def test_onnx_runtime_names_the_same_classes_as_predict(runs: dict[str, Path], onnx: Path) -> None:
    """The whole way: trained, stored, exported, run without torch; whatever the number of images."""
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx / "classifier.onnx", providers=["CPUExecutionProvider"])
    expected = byte_reader(open_model(runs["improved"]))(IMAGES).softmax(1)
    for count in (1, 60):
        found = torch.from_numpy(session.run(None, {"images": IMAGES[:count].numpy()})[0])
        assert torch.equal(found.argmax(1), expected[:count].argmax(1))
        assert (found - expected[:count]).abs().max() < 1e-5
    facts = {name: json.loads(value) for name, value in session.get_modelmeta().custom_metadata_map.items()}
    assert facts["classes"] == [str(number) for number in range(10)] and facts["path"] == "x_tilde_t"
    assert [entry.type for entry in session.get_inputs()] == ["tensor(uint8)"]


def test_the_translator_takes_its_noise_from_outside(runs: dict[str, Path], onnx: Path) -> None:
    network, draw = ByteTranslator(open_model(runs["improved"])).eval(), FORMS["onnx"].read(onnx / "translator.onnx")
    zeros, noise = torch.zeros(5, 32), torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert (draw(IMAGES[:5], noise) - network(IMAGES[:5], noise)).abs().max() < 1e-5
    plain = draw(IMAGES[:5], zeros)
    assert 0 <= plain.min() and plain.max() <= 1 and not torch.allclose(plain, draw(IMAGES[:5], noise), atol=1e-4)


def test_a_program_is_run_by_torch_alone(runs: dict[str, Path], program: Path) -> None:
    found = torch.export.load(program / "classifier.pt2").module()(IMAGES)
    expected = byte_reader(open_model(runs["plain"]))(IMAGES)
    assert torch.equal(found.argmax(1), expected.argmax(1))
    assert sorted(content_of(program)) == ["classifier.pt2", "export.json"]      # without a decoder there is nothing to draw


def test_files_tell_nothing_of_the_machine(onnx: Path, program: Path) -> None:
    with zipfile.ZipFile(program / "classifier.pt2") as archive:
        contents = [archive.read(name) for name in archive.namelist()]
    contents += [path.read_bytes() for path in onnx.iterdir()]
    places = [str(Path(export.__file__).parent).encode(), b"site-packages", b"stack_trace"]
    assert [place for place in places if any(place in content for content in contents)] == []


def test_what_was_frozen_by_mistake_is_seen(runs: dict[str, Path]) -> None:
    """A program for two images alone, and one of other weights, differ from their network."""
    network, other = (ByteClassifier(open_model(runs[name])).eval() for name in ("plain", "cdlm"))
    frozen = torch.export.export(network, tuple(random_inputs(network, 2))).module()
    with pytest.raises(Exception, match="2"):
        largest_gap(network, frozen)
    assert largest_gap(network, batch_program(network, random_inputs(network, 2)).module()) <= 1e-6
    assert largest_gap(network, other) > 1e-5
    assert largest_gap(network, lambda x: network(x) * float("nan")) == float("inf")


# What is refused, and leaves nothing behind


def test_what_differs_is_not_written(runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path) -> object:
        return lambda images: torch.full((len(images), 10), 0.1) + torch.arange(10) * 1e-3

    monkeypatch.setitem(FORMS, "torch-export", FORMS["torch-export"]._replace(read=read))
    with pytest.raises(RunError, match="classifier.pt2 computes differs from PyTorch by .*nothing is written"):
        export_run(runs["plain"], tmp_path / "out", "torch-export")
    assert list(tmp_path.iterdir()) == []


def no_work(*_: object) -> Tensor:
    raise AssertionError("work was begun")


@pytest.mark.parametrize("words, message", [
    (("tflite",), "unknown format 'tflite'; known: onnx, torch-export, safetensors"),
    (("safetensors", "h"), "safetensors stores the weights, from which all paths are read"),
    (("torch-export", "h"), "exists already"),
])
def test_what_cannot_be_is_refused_before_work(runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                               words: tuple[str, ...], message: str) -> None:
    monkeypatch.setattr(export, "open_model", no_work)
    monkeypatch.setattr(export, "store_model_folder", no_work)
    if "exists" in message:
        (tmp_path / "out").mkdir()
        (tmp_path / "out/mine").write_text("mine")
    before = content_of(tmp_path)
    with pytest.raises(RunError, match=message):
        export_run(runs["plain"], tmp_path / "out", *words)
    assert content_of(tmp_path) == before


@pytest.mark.parametrize("name", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named(runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(export, "find_spec", lambda asked: None if asked == name else object())
    with pytest.raises(RunError, match=rf'needs the package {name}, which is not installed: pip install "cdlm\[export\]"'):
        export_run(runs["plain"], tmp_path / "out", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_the_method_does_not_have_is_named(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="trained by plain, which has no path 'x_tilde_t'; it has x_t, h"):
        export_run(runs["plain"], tmp_path / "out", "torch-export", "x_tilde_t")
    with pytest.raises(RunError, match="plain, which draws no images from modulated codes"):
        ByteTranslator(open_model(runs["plain"]))
    assert list(tmp_path.iterdir()) == []


def test_the_third_format_is_a_model_folder(runs: dict[str, Path], tmp_path: Path) -> None:
    lines = export_run(runs["plain"], tmp_path / "out", "safetensors")
    assert {"config.json", "model.safetensors", "README.md"} <= {line.partition(":")[0] for line in lines}
