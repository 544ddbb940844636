"""What a stored run draws and maps: which images may be stored, how they are chosen, and that records hold what they say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from folders import copied, without_checksums
from typer.testing import CliRunner

import cdlm.measurements.drawings
import cdlm.measurements.maps
from cdlm.cli.app import app
from cdlm.data.batches import normalize
from cdlm.data.domain import checksum
from cdlm.domains.catalog import in_color, open_domain
from cdlm.domains.samples import load_domain
from cdlm.evaluation.readouts import translations
from cdlm.files import RunError, read_json, write_json
from cdlm.measurements.drawings import (
    SHOWABLE,
    SHOWN_FROM,
    check_showable,
    images_of,
    measure_translations,
    pick_columns,
    png_text,
    share_seen,
    shown_images,
    to_bytes,
    translation_record,
)
from cdlm.measurements.maps import (
    confusion_record,
    map_record,
    measure_confusion,
    measure_maps,
    mixing,
    nearest_agreement,
    paired_views,
)
from cdlm.measurements.stored import load_trained
from cdlm.runs.run import load_run, run
from cdlm.runs.spec import RunSpec

MEASUREMENTS = ROOT / "book/results/measurements"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of CDLM to digits in color, too short to have learned anything."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    run(RunSpec("cdlm", "mnist", "mnistm", 3, 2, 8, {"width": 4}), out)
    return out


def other_seed(folder: Path, out: Path, **changes: object) -> Path:
    """A copy of a run that says that it had other settings."""
    return without_checksums(copied(folder, out), changes)


# Images as text


@pytest.mark.parametrize("channels", [1, 3])
def test_png_loses_nothing(channels: int) -> None:
    images = torch.randint(0, 256, (5, channels, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert torch.equal(images_of(png_text(images)), images)
    assert torch.equal(images_of(png_text(images[:1])), images[:1])


def test_every_byte_survives_the_way_through_the_networks_range() -> None:
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(to_bytes(normalize(every)), every)
    assert to_bytes(torch.tensor([-7.0, 7.0])).tolist() == [0, 255]


# Which may be shown


@pytest.mark.parametrize("name", ["usps", "lmo", "mars", "/some/folder"])
def test_other_images_are_refused(name: str) -> None:
    with pytest.raises(RunError, match="not ours to print"):
        check_showable(name)
    with pytest.raises(RunError, match="not ours to print"):
        shown_images(name, 1)


def test_blended_images_never_come_from_research_photographs(monkeypatch: pytest.MonkeyPatch) -> None:
    """MNIST-M is the package's sample; Fashion-M is opened as "partial", whose photographs are the packages'."""
    split, origin = shown_images("mnistm", 3)
    assert checksum(split) == checksum(load_domain("mnistm").test) and "BSDS" not in origin
    asked = []
    monkeypatch.setattr(
        cdlm.measurements.drawings, "open_at", lambda name, size: asked.append((name, size)) or open_domain("mnistm", "sample")
    )
    for name in SHOWABLE:
        shown_images(name, 3)
    assert dict(asked) == SHOWABLE
    assert {name for name, size in asked if size == "full"} == {"fashion"} and ("fashionm", "partial") in asked


def test_gray_images_are_shown_in_as_many_channels_as_the_run_has() -> None:
    gray = open_domain("mnist", "sample").test
    assert torch.equal(shown_images("mnist", 3)[0].images, in_color(gray).images)
    assert shown_images("mnist", 1)[0].images.shape[1] == 1


def test_a_run_to_usps_is_refused_before_anything_is_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "usps").mkdir()
    shutil.copy(folder / "config.json", tmp_path / "usps/config.json")
    write_json(tmp_path / "usps/config.json", read_json(folder / "config.json") | {"target": "usps"})
    with pytest.raises(RunError, match="images of usps are not ours"):
        translation_record(tmp_path / "usps")


def test_share_of_images_that_were_seen() -> None:
    images = load_domain("mnist").test.images
    assert share_seen(images[:4], images[2:]) == 0.5
    assert share_seen(in_color(load_domain("mnist").test).images[:3], in_color(load_domain("mnist").test).images) == 1.0
    assert share_seen(images[:4], 255 - images) == 0.0


# How they are chosen


def test_half_of_the_columns_are_failures_if_there_are_enough() -> None:
    right = torch.arange(100) % 10 != 0                                     # ten failures
    chosen = pick_columns(right, 12)
    assert right[chosen].tolist() == [True] * 6 + [False] * 6 and len(set(chosen.tolist())) == 12
    assert torch.equal(chosen, pick_columns(right, 12)) and not torch.equal(chosen, pick_columns(right, 12, seed=1))


@pytest.mark.parametrize(("wrong", "failures"), [(0, 0), (2, 2), (6, 6), (17, 9), (20, 12)])
def test_where_one_kind_is_rare_the_other_fills_up(wrong: int, failures: int) -> None:
    right = torch.arange(20) >= wrong
    chosen = pick_columns(right, 12)
    assert int((~right[chosen]).sum()) == failures and len(set(chosen.tolist())) == 12
    with pytest.raises(RunError, match="21 images asked, of 20"):
        pick_columns(right, 21)


# Records of a run


def test_a_record_of_translations_is_what_the_model_draws(folder: Path) -> None:
    record = json.loads(json.dumps(translation_record(folder, count=8, checked=40)))
    _, model, source, _ = load_run(folder)
    sample = load_domain("mnistm").test
    some = torch.randperm(len(sample), generator=torch.Generator().manual_seed(0))[:40]
    drawn = translations(model, source.train.images, sample.images[some])
    with torch.no_grad():
        probabilities = model.classifier(drawn["x_tilde_t"]).softmax(1)
    right = probabilities.argmax(1) == sample.labels[some]
    chosen = pick_columns(right, 8)
    assert record["failures"] == int((~right).sum())
    assert record["accuracy"]["x_tilde_t"] == pytest.approx(right.double().mean().item())
    assert [c["class"] for c in record["columns"]] == sample.labels[some][chosen].tolist()
    assert [c["prediction"] for c in record["columns"]] == probabilities[chosen].argmax(1).tolist()
    assert [c["probability"] for c in record["columns"]] == pytest.approx(probabilities[chosen].amax(1).tolist(), abs=6e-4)
    assert sum(c["class"] != c["prediction"] for c in record["columns"]) >= 4
    assert torch.equal(images_of(record["rows"]["x_t"]), sample.images[some][chosen])
    for path in ("x_hat_ts", "x_tilde_t"):
        assert (images_of(record["rows"][path]).int() - to_bytes(drawn[path][chosen]).int()).abs().max() <= 1
    assert record["data"]["shown"] == checksum(sample) and {"code", "revision", "packages"} <= set(record["provenance"])
    assert record["seed"] == 3 and record["seen_in_training"] == 0.0        # the sample's test images are not its training images


def test_only_runs_that_draw_and_whose_data_are_the_same(folder: Path, tmp_path: Path) -> None:
    run(RunSpec("source", "mnist", "optdigits", 0, 1, 8, {}), tmp_path / "source")
    with pytest.raises(RunError, match="draws no images"):
        translation_record(tmp_path / "source")
    changed = other_seed(folder, tmp_path / "changed")
    without_checksums(changed, metrics={"data": read_json(changed / "metrics.json")["data"] | {"target/test": "0"}})
    with pytest.raises(RunError, match="data are not those"):
        map_record(changed, count=20)


def test_a_record_of_maps_has_coordinates_classes_and_numbers(folder: Path) -> None:
    record = json.loads(json.dumps(map_record(folder, count=30)))
    assert set(record["maps"]) == set(record["numbers"]) == {"pixels", "h", "codes"} and len(record["classes"]) == 60
    for plane in record["maps"].values():
        assert all(len(plane[axis]) == 60 and all(round(v, 1) == v for v in plane[axis]) for axis in "xy")
    _, model, source, target = load_run(folder)
    generator = torch.Generator().manual_seed(0)
    i, j = (torch.randperm(len(d.test), generator=generator)[:30] for d in (source, target))
    assert record["classes"] == source.test.labels[i].tolist() + target.test.labels[j].tolist()
    views = paired_views(model, source.test.images[i], target.test.images[j])
    agreement = nearest_agreement(*views["h"], source.test.labels[i], target.test.labels[j])
    assert record["numbers"]["h"]["nearest_agreement"] == pytest.approx(agreement, abs=6e-4)
    with pytest.raises(RunError, match="5000 images asked"):
        map_record(folder, count=5000)


def test_confusion_has_the_accuracy_of_the_run_on_its_diagonal(folder: Path) -> None:
    record, (_, _, _, target) = confusion_record(folder), load_trained(folder)
    counts = torch.tensor(record["confusion"])
    assert counts.sum(1).tolist() == torch.bincount(target.test.labels, minlength=10).tolist()
    stored = read_json(folder / "metrics.json")["target_accuracy"]
    assert (counts.diagonal().sum() / counts.sum()).item() == pytest.approx(stored)
    assert measure_confusion([folder])["measured"] == "confusion"


def test_runs_are_joined_by_seed_and_may_differ_in_nothing_else(folder: Path, tmp_path: Path,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    second = other_seed(folder, tmp_path / "second", seed=1)
    monkeypatch.setattr(cdlm.measurements.maps, "map_record", lambda path: {"seed": read_json(path / "config.json")["seed"]})
    record = measure_maps([folder, second])
    assert [one["seed"] for one in record["runs"]] == [1, 3] and record["measured"] == "maps" and "seed" not in record["spec"]
    assert all({"target_accuracy", "provenance"} == set(one["trained"]) for one in record["runs"])
    other = other_seed(folder, tmp_path / "other", seed=2, batch_size=4)
    with pytest.raises(RunError, match="differ in their seed only"):
        measure_translations([folder, other])


def test_the_command_writes_a_record_and_refuses_usps_in_one_line(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new/translations.json"
    done = CliRunner().invoke(app, ["measure", "translations", str(folder), "--out", str(out)])
    assert done.exit_code == 0 and len(read_json(out)["runs"][0]["columns"]) == 12
    usps = other_seed(folder, tmp_path / "usps", target="usps")
    done = CliRunner().invoke(app, ["measure", "translations", str(usps), "--out", str(out)])
    assert done.exit_code == 1 and "images of usps are not ours" in done.output and len(done.output.strip().splitlines()) == 1


# Numbers beside a map


def test_mixing_between_its_limits() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 300, 3, generator=generator, dtype=torch.float64)
    assert mixing(a, b + 100) == 0.0
    assert mixing(a, b) == pytest.approx(0.5, abs=0.04)
    spread = 100.0 * torch.arange(4, dtype=torch.float64)[:, None]
    assert mixing(spread, spread + 1, k=1) == 1.0                           # each one's nearest is its twin


def test_the_nearest_source_point_by_hand() -> None:
    s, t = torch.tensor([[0.0], [10.0]]), torch.tensor([[1.0], [9.0], [4.0]])
    labels = torch.tensor([0, 1])
    assert nearest_agreement(s, t, labels, torch.tensor([0, 1, 0])) == 1.0
    assert nearest_agreement(s, t, labels, torch.tensor([0, 0, 1])) == pytest.approx(1 / 3)


# The records of the book


@pytest.mark.parametrize("path", sorted(MEASUREMENTS.glob("translations_*.json")), ids=lambda path: path.stem)
def test_stored_images_are_those_that_may_be_stored(path: Path) -> None:
    record = read_json(path)
    target = record["spec"]["target"]
    assert path.stem == f"translations_{record['spec']['source']}-{target}" and target in SHOWABLE
    for one in record["runs"]:
        assert SHOWN_FROM[SHOWABLE[target]] in one["origin"] and len(one["columns"]) == 12
        shown = images_of(one["rows"]["x_t"])
        assert len(shown) == len(images_of(one["rows"]["x_tilde_t"])) == 12
        wrong = [column["class"] != column["prediction"] for column in one["columns"]]
        assert wrong == sorted(wrong) and sum(wrong) == min(6, one["failures"])
        if SHOWABLE[target] == "sample":
            split = load_domain(target).test
            images = split.images.expand(-1, shown.shape[1], -1, -1)
            assert one["data"]["shown"] in (checksum(split), checksum(shown_images(target, shown.shape[1])[0]))
            assert share_seen(shown, images) == 1.0
