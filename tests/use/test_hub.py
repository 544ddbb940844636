"""A model as a folder that others can load: the same bits, whole or not at all, and read without trusting it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from folders import content_of, copied, noise_pictures
from safetensors.torch import load_file, save_file

import cdlm
from cdlm.data.batches import normalize
from cdlm.files import RunError
from cdlm.methods.registry import METHODS, build_config
from cdlm.runs.run import run
from cdlm.runs.spec import RunSpec
from cdlm.training.checkpoints import content_digest
from cdlm.use.hub import load_model, store_model_folder

SMALL = {"cdlm": {"width": 4}, "improved": {"width": 4, "self_training": 0.0}, "plain": {"width": 4, "self_training": 0.0}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each method, of two steps."""
    place = tmp_path_factory.mktemp("runs")
    for name, (method, _) in METHODS.items():
        settings = SMALL.get(name, {})
        strong = {"degrees": 10.0} if method.needs_second_view(build_config(name, settings)) else {}
        spec = RunSpec(name, "mnist", "optdigits", steps=2, batch_size=8, settings=settings, strong=strong)
        run(spec, place / name, log_every=1)
    return {name: place / name for name in METHODS}


@pytest.fixture(scope="module")
def model(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store_model_folder(runs["cdlm"], tmp_path_factory.mktemp("models") / "cdlm")


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_stored_model_gives_the_logits_of_its_run(name: str, runs: dict[str, Path], tmp_path: Path, pair) -> None:
    images = normalize(pair[1].test.images[:64])
    folder = store_model_folder(runs[name], tmp_path / "model")
    one, other = cdlm.load(runs[name]).method, load_model(folder)
    assert torch.equal(one.logits(images), other.logits(images))
    assert torch.equal(one.features(images), other.features(images))
    assert not other.training and one.config == other.config and one.images == other.images


def test_the_folder_has_what_the_hub_asks_for(model: Path) -> None:
    assert set(content_of(model)) == {"README.md", "config.json", "model.safetensors"}
    config = json.loads((model / "config.json").read_text())
    assert (config["num_channels"], config["image_size"]) == (1, 28)
    assert config["id2label"]["7"] == "7" and config["label2id"]["7"] == 7
    assert config["normalization"] == {"rescale_factor": 1 / 255, "image_mean": [0.5], "image_std": [0.5]}
    assert (config["run"]["source"], config["run"]["target"]) == ("mnist", "optdigits")
    assert set(config["data"]) == {f"{side}/{split}" for side in ("source", "target") for split in ("train", "test")}
    assert torch.__version__.startswith(config["provenance"]["packages"]["torch"])
    assert config["settings"]["gamma1"] == 1.0, "defaults are written, too: they may change"


def test_no_path_of_its_maker_travels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source, target = (noise_pictures(tmp_path / "secret" / name, seed=i) for i, name in enumerate(("one", "two")))
    run(RunSpec("source", str(source), str(target), steps=1, batch_size=4), tmp_path / "run", log_every=1)
    folder = store_model_folder(tmp_path / "run", tmp_path / "model")
    assert not [name for name, content in content_of(folder).items() if b"secret" in content]
    assert cdlm.load(folder).spec.source == "one"
    assert json.loads((folder / "config.json").read_text())["id2label"] == {"0": "cat", "1": "dog"}


def test_load_tells_the_two_kinds_of_folder_apart(runs: dict[str, Path], model: Path) -> None:
    of_run, of_model = cdlm.load(runs["cdlm"]), cdlm.load(str(model))
    assert of_run.spec == of_model.spec and len(of_run.target.test) == 500
    assert (of_model.source, of_model.target) == (None, None)


def test_loading_leaves_random_numbers_alone(model: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    load_model(model)
    assert torch.equal(torch.rand(4), expected)


# Damaged, doctored, and other people's folders


def doctored(model: Path, target: Path, **changes: object) -> Path:
    folder = copied(model, target)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


TEN = {str(i): str(i) for i in range(10)}


@pytest.mark.parametrize("changes, words", [
    ({"format": 2}, "format"),
    ({"model_type": "nothing"}, "two methods"),
    ({"num_channels": 2**40}, "num_channels"),
    ({"image_size": 29}, "image_size"),
    ({"image_size": "28"}, "image_size"),
    ({"settings": {"gamma1": "much"}}, "gamma1"),
    ({"settings": {"width": 10**9}}, "width"),
    ({"settings": {"width": 512, "latent": 4096}}, "does not fit"),
    ({"settings": {"__class__": 1}}, "__class__"),
    ({"id2label": {**TEN, "12": "x"}}, "numbered"),
    ({"id2label": {}}, "inverse"),
    ({"id2label": {**TEN, "3": "8"}}, "inverse"),
    ({"label2id": {}}, "inverse"),
    ({"normalization": {"rescale_factor": 1.0, "image_mean": [0.5], "image_std": [0.5]}}, "normalization"),
    ({"auto_map": {"AutoModel": "evil.py"}}, "auto_map"),
    ({"run": {}}, "run"),
    ({"weights": "0" * 64}, "checksum"),
    ({"accuracy": {"target": 7.0}}, "accuracy"),
])  # fmt: skip
def test_a_config_that_is_not_in_order_is_refused_in_one_line(changes: dict, words: str, model: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=words) as caught:
        cdlm.load(doctored(model, tmp_path / "model", **changes))
    assert "\n" not in str(caught.value)


def test_settings_of_another_network_do_not_take_the_weights(model: Path, tmp_path: Path) -> None:
    settings = json.loads((model / "config.json").read_text())["settings"]
    with pytest.raises(RunError, match="does not fit"):
        cdlm.load(doctored(model, tmp_path / "model", settings=settings | {"width": 8}))


def test_weights_that_are_damaged_missing_or_no_numbers_are_refused(model: Path, tmp_path: Path) -> None:
    folder, dice = copied(model, tmp_path / "model"), random.Random(0)
    path, good = folder / "model.safetensors", (model / "model.safetensors").read_bytes()
    for _ in range(20):
        place = dice.randrange(len(good))
        path.write_bytes(good[:place] + bytes([good[place] ^ (1 << dice.randrange(8))]) + good[place + 1:])
        with pytest.raises(RunError, match="damaged"):
            load_model(folder)
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(RunError, match="damaged"):
        load_model(folder)
    path.unlink()
    with pytest.raises(RunError, match="does not exist"):
        load_model(folder)
    weights = load_file(model / "model.safetensors")
    next(iter(weights.values())).fill_(float("nan"))
    save_file(weights, path)
    folder = doctored(folder, tmp_path / "again", weights=content_digest(weights))
    with pytest.raises(RunError, match="no numbers"):
        load_model(folder)


def test_a_place_that_is_taken_stays_as_it_is(runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/mine.txt").write_text("mine")
    with pytest.raises(RunError, match="exists already"):
        store_model_folder(runs["cdlm"], tmp_path / "model")
    assert content_of(tmp_path) == {"model/mine.txt": b"mine"}


def test_what_is_interrupted_leaves_nothing(runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cdlm.use import hub

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(hub, "write_page", stop)
    with pytest.raises(KeyboardInterrupt):
        store_model_folder(runs["cdlm"], tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_run_is_refused(tmp_path: Path, model: Path) -> None:
    for folder in (tmp_path / "none", tmp_path, model):
        with pytest.raises(RunError):
            store_model_folder(folder, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
