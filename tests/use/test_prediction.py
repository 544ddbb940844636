"""Predictions of stored runs for images of every kind: the right row for each, and the same row in any company."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from halves import ODDITIES, half_pictures, half_run, odd_pictures
from PIL import Image

import cdlm
from cdlm.data.archives import DamagedError, DataError
from cdlm.data.domain import UnknownDomainError
from cdlm.evaluation.readouts import probe_h
from cdlm.files import RunError
from cdlm.runs.run import run
from cdlm.runs.spec import RunSpec
from cdlm.speed.predicting import bench_predict
from cdlm.use.images import Framing, asked_images, files_below, first_frame, pieces
from cdlm.use.prediction import (
    Predictions,
    byte_reader,
    common_noise,
    csv_of,
    json_of,
    open_model,
    partner,
    predict_run,
    rows_of,
    write_new,
)
from cdlm.use.trust import Trust


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that tells which half of a picture is bright."""
    return half_run(tmp_path_factory.mktemp("sides"))


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a method with a decoder, hardly trained, on gray digits."""
    out = tmp_path_factory.mktemp("drawing") / "run"
    run(RunSpec("cdlm", "mnist", "optdigits", steps=3, batch_size=4, settings={"width": 2, "latent": 4}), out, log_every=3)
    return out


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return odd_pictures(tmp_path_factory.mktemp("odd") / "photos")


def by_name(found: Predictions) -> dict[str, str]:
    return {Path(row["file"]).name: row["class"] for row in rows_of(found)}


# Images of every kind


def test_each_oddity_has_its_row(sides: Path, odd: Path) -> None:
    found = predict_run(sides, [str(odd)])
    assert by_name(found) == {name: seen for name, seen in ODDITIES.items() if seen}
    assert found.files == [f"{odd}/{name}" for name, seen in ODDITIES.items() if seen]
    left_out = {message.partition(" is left out")[0] for message in found.skipped}
    assert left_out == {f"{odd}/{name}" for name, seen in ODDITIES.items() if not seen}
    assert any("empty.png is left out, it cannot be read as an image: an empty file" in message for message in found.skipped)
    assert all("\n" not in message and message.count(str(odd)) == 1 for message in found.skipped)


def test_strict_stops_at_the_first_file_that_is_no_image(sides: Path, odd: Path) -> None:
    with pytest.raises(DamagedError, match="empty.png is left out"):
        predict_run(sides, [str(odd)], strict=True)


def test_transparency_lies_on_the_stated_ground(sides: Path, odd: Path) -> None:
    white, black = (first_frame(odd / "alpha.png", Framing(28, 3, ground=ground)) for ground in (255, 0))
    assert white.shape == (3, 28, 28) and (white[:, :, :14] == 255).all() and (black[:, :, :14] == 0).all()
    assert (white[:, :, 14:] == 20).all() and (black[:, :, 14:] == 20).all()
    ways = [predict_run(sides, [str(odd / "alpha.png")], ground=ground).logits for ground in (255, 0)]
    assert not torch.allclose(*ways)


def test_a_picture_is_fitted_as_asked(tmp_path: Path) -> None:
    wide = np.zeros((28, 84), np.uint8)
    wide[:, 28:56] = 200
    Image.fromarray(wide).save(tmp_path / "wide.png")
    crop, pad, stretch = (first_frame(tmp_path / "wide.png", Framing(28, 1, fit, 255)) for fit in ("crop", "pad", "stretch"))
    assert (crop == 200).all() and (pad[0, :8] == 255).all() and stretch[0, 5, 14] == 200 and stretch[0, 5, 0] == 0


def test_gray_and_color_follow_the_run(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), (255, 0, 0)).save(tmp_path / "red.png")
    assert first_frame(tmp_path / "red.png", Framing(28, 1))[0, 0, 0] == 76      # by the weights of ITU-R 601
    assert first_frame(tmp_path / "red.png", Framing(28, 3))[:, 0, 0].tolist() == [255, 0, 0]


# What a word stands for


def test_folders_files_patterns_and_archives_give_the_same_rows(sides: Path, odd: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for path in sorted(odd.iterdir()):
            archive.write(path, path.name)
    with tarfile.open(tmp_path / "p.tar.gz", "w:gz") as archive:
        archive.add(odd, "inner")
    expected = by_name(predict_run(sides, [str(odd)]))
    files = [str(odd / name) for name in expected]
    zipped, packed = str(tmp_path / "p.zip"), str(tmp_path / "p.tar.gz")
    for words in ([zipped], [packed], files, [str(odd / "*")], [str(odd / "[a-d]*"), *files]):
        assert by_name(predict_run(sides, words)) == expected
    [first, *_] = predict_run(sides, [packed]).files
    assert first == f"{tmp_path}/p.tar.gz/inner/alpha.png"
    twice = predict_run(sides, [zipped, zipped])
    assert len(twice.files) == 2 * len(expected) and all(message.startswith(f"{zipped}/") for message in twice.skipped)


def test_files_are_in_the_order_of_their_numbers_and_hidden_ones_are_none(tmp_path: Path) -> None:
    for name in ("a/10.png", "a/9.png", "b.txt", ".git/x.png", "__MACOSX/a.png", ".x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [str(path.relative_to(tmp_path)) for path in files_below(tmp_path)] == ["a/9.png", "a/10.png", "b.txt"]


def test_a_domain_is_its_test_images(drawing: Path) -> None:
    found = predict_run(drawing, ["optdigits"])
    model = open_model(drawing)
    images = cdlm.open_domain("optdigits").test.images
    assert found.files[:2] == ["optdigits/test/0", "optdigits/test/1"] and len(found.files) == len(images)
    torch.testing.assert_close(found.logits, byte_reader(model)(images))


@pytest.mark.parametrize("words, error, message", [
    ([""], DataError, "an empty word names no image"),
    (["nowhere/"], DataError, "there is no folder or archive nowhere"),
    (["nobody"], UnknownDomainError, "unknown domain 'nobody'"),
    (["none*.png"], DataError, r"no file matches none\*.png"),
    (["empty"], DataError, "empty holds no images"),
    (["text.zip"], DataError, "text.zip is a file, neither a folder"),
    (["x" * 300], UnknownDomainError, "unknown domain"),
    (["notes"], RunError, "none of these 1 files is an image: notes/n.txt is left out"),
    (["mnistm"], RunError, "images of mnistm are 3 x 28 x 28, and the run reads 1 x 28 x 28"),
])  # fmt: skip
def test_a_word_that_stands_for_no_image_is_told(
    words: list[str], error: type, message: str, drawing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("notes").mkdir()
    Path("notes/n.txt").write_text("no image")
    Path("text.zip").write_text("no archive")
    with pytest.raises(error, match=message):
        predict_run(drawing, words)


def test_names_that_cannot_be_printed_are_escaped(sides: Path, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    Image.new("L", (9, 9)).save(folder / "a\nb.png")
    found = predict_run(sides, [str(folder)])
    assert found.files == [f"{folder}/a\\nb.png"] and csv_of(found).count("\n") == 2


# The row of an image is its own


@pytest.mark.parametrize("path", ["x_t", "x_hat_ts", "x_tilde_t", "h"])
@pytest.mark.parametrize("seed", [None, 3])
def test_a_row_does_not_depend_on_its_company(drawing: Path, path: str, seed: int | None) -> None:
    read = byte_reader(open_model(drawing), path, seed)
    images = torch.randint(256, (33, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    together = read(images)
    assert together.shape == (33, 10) and together.dtype == torch.float32
    for size in (1, 7, 32):
        apart = torch.cat([read(part) for part in images.split(size)])
        torch.testing.assert_close(apart, together, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(read(images.flip(0)).flip(0), together, rtol=1e-4, atol=1e-4)


def test_batches_of_the_method_itself_would_not_do(drawing: Path) -> None:
    """The noise of ``translate`` belongs to a place in the batch: what a row must not depend on."""
    model = open_model(drawing)
    x = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        assert not torch.allclose(model.method.logits(x), model.method.logits(x.flip(0)).flip(0), rtol=1e-4, atol=1e-4)


def test_paths_are_what_they_say(drawing: Path) -> None:
    """Against the networks, written out."""
    model, images = open_model(drawing), cdlm.open_domain("optdigits").test.images[:20]
    method, x = model.method, images.float() / 127.5 - 1
    with torch.no_grad():
        own = method.encoder(x)
        source = method.encoder(model.source.train.images[:: -(-len(model.source.train) // 2000)].float() / 127.5 - 1)
        z_ts = own.mu + own.sigma * source.h.mean(0)
        expected = {"x_t": method.classifier(x), "x_tilde_t": method.classifier(method.decoder(own.h)),
                    "x_hat_ts": method.classifier(method.decoder(z_ts))}
        for path, logits in expected.items():
            torch.testing.assert_close(byte_reader(model, path)(images), logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(byte_reader(model)(images), expected["x_tilde_t"], rtol=1e-4, atol=1e-4)     # the default
    probe = probe_h(method, model.source.train, images).float()
    torch.testing.assert_close(byte_reader(model, "h")(images), probe, rtol=1e-3, atol=1e-3)


def test_a_seed_draws_one_noise_for_all(drawing: Path) -> None:
    model = open_model(drawing)
    assert not common_noise(model, 3).any() and common_noise(model, 2, 5).shape == (2, 4)
    assert torch.equal(common_noise(model, seed=5), common_noise(model, seed=5))
    assert not torch.equal(common_noise(model, seed=5), common_noise(model, seed=6))
    assert not torch.allclose(partner(model, 1).h, partner(model).h)
    images = cdlm.open_domain("optdigits").test.images[:20]
    zero, one, other = (byte_reader(model, "x_tilde_t", seed)(images) for seed in (None, 1, 2))
    assert not torch.allclose(zero, one) and not torch.allclose(one, other)


@pytest.mark.parametrize("path", ["x_tilde_s", "", "h "])
def test_a_path_that_a_method_does_not_have_is_told(sides: Path, path: str) -> None:
    with pytest.raises(RunError, match="run was trained by source, which has no path .*; it has x_t, h"):
        byte_reader(open_model(sides), path or "x_tilde_t")


# What is written


def some(logits: list[list[float]]) -> Predictions:
    files, trust = [f"{i}.png" for i in range(len(logits))], Trust(0.75, 0.9, source_confidence=0.9)
    return Predictions(("cat", "dog", 'é,"x"'), "x_t", files, torch.tensor(logits), trust, ["z.txt is left out"])


def test_the_table_by_hand() -> None:
    found = some([[math.log(6), math.log(3), math.log(1)], [0.0, 0.0, math.log(18)]])
    head, cat, other = csv_of(found).splitlines()
    assert head == "file,class,probability,entropy,trust" and cat == "0.png,cat,0.6000,0.8979,no"
    assert other == '1.png,"é,""x""",0.9000,0.3944,yes'
    [first, second] = list(csv.DictReader(io.StringIO(csv_of(found, top=2))))
    assert (first["class_2"], first["probability_2"]) == ("dog", "0.3000") and second["class_2"] == "cat"
    assert csv_of(found, top=3) == csv_of(found, top=99)


def test_json_holds_the_same_and_what_was_left_out() -> None:
    told = json.loads(json_of(some([[0.0, 1e4, -1e4]]), top=2))
    assert told["predictions"] == [{"file": "0.png", "class": "dog", "probability": 1.0, "entropy": 0.0, "trust": True,
                                    "class_2": "cat", "probability_2": 0.0}]
    assert told["left_out"] == ["z.txt is left out"] and told["estimated_accuracy"] == 1.0
    assert (told["path"], told["threshold"], told["source_accuracy"]) == ("x_t", 0.75, 0.9)


def test_what_speaks_against_a_table_is_told_of_many_images_only() -> None:
    unsure = [[0.0, 0.1, 0.0]]
    assert some(99 * unsure).doubts == [] and any("an estimated 0%" in sentence for sentence in some(100 * unsure).doubts)
    assert some(100 * [[9.0, 0.0, 0.0]]).doubts == []


def test_what_exists_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("kept")
    (tmp_path / "link.csv").symlink_to(tmp_path / "nowhere")
    for name in ("old.csv", "link.csv", "."):
        with pytest.raises(RunError, match="exists already; name another, or remove it"):
            write_new(tmp_path / name, "new")
    assert (tmp_path / "old.csv").read_text() == "kept"
    with pytest.raises(RunError, match="cannot write .*Not a directory"):
        write_new(tmp_path / "old.csv/x.csv", "new")
    write_new(tmp_path / "a/new.csv", "é\n")
    assert (tmp_path / "a/new.csv").read_bytes() == "é\n".encode()


# Runs


def test_the_target_is_not_needed_and_the_source_may_have_moved(tmp_path: Path) -> None:
    folder = half_run(tmp_path, steps=2)
    expected = predict_run(folder, [str(tmp_path / "others")]).logits
    (tmp_path / "others").rename(tmp_path / "away")
    torch.testing.assert_close(predict_run(folder, [str(tmp_path / "away")]).logits, expected)
    (tmp_path / "labeled").rename(tmp_path / "moved")
    with pytest.raises(RunError, match="the source of .*run was .*labeled, which is not to be found from here; .*--source"):
        predict_run(folder, [str(tmp_path / "away")])
    again = predict_run(folder, [str(tmp_path / "away")], source=str(tmp_path / "moved"))
    torch.testing.assert_close(again.logits, expected)
    with pytest.raises(RunError, match="are not those that .*run has learned from"):
        predict_run(folder, [str(tmp_path / "away")], source=str(half_pictures(tmp_path / "new", seed=9)))
    with pytest.raises(RunError, match="does not fit images of"):
        predict_run(folder, [str(tmp_path / "away")], source=str(half_pictures(tmp_path / "two", names=("left", "top"))))


def test_a_folder_that_is_no_run_is_told(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RunError, match="config.json does not exist; is this a run folder?"):
            predict_run(folder, ["mnist"])


def test_damaged_weights_are_told(sides: Path, odd: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(sides, tmp_path / "broken"))
    content = bytearray((broken / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (broken / "weights.safetensors").write_bytes(content)
    with pytest.raises(RunError, match="weights.safetensors"):
        predict_run(broken, [str(odd)])


def test_a_gray_source_whose_target_was_in_color_reads_color(tmp_path: Path) -> None:
    photos = half_pictures(tmp_path / "photos", names=("left",)) / "left"
    run(RunSpec("source", "mnist", str(photos), steps=2, batch_size=4, settings={"width": 2}), tmp_path / "run", log_every=2)
    assert open_model(tmp_path / "run").shape == (3, 28, 28)
    assert len(predict_run(tmp_path / "run", [str(tmp_path / "photos"), "mnist"]).classes) == 10


def test_the_package_offers_it_by_itself() -> None:
    assert cdlm.predict is predict_run and callable(cdlm.translate)


def test_pieces_are_of_the_size_that_is_asked(odd: Path) -> None:
    with asked_images([str(odd)], (3, 28, 28)) as [group]:
        sizes = [(len(names), tuple(images.shape)) for names, images in pieces(group, Framing(28, 3), [], count=5)]
    assert all(count == shape[0] <= 5 and shape[1:] == (3, 28, 28) for count, shape in sizes)
    assert sum(count for count, _ in sizes) == sum(seen is not None for seen in ODDITIES.values())


# What it costs


def test_the_cost_of_a_table_is_told_beside_that_of_the_networks() -> None:
    cost = bench_predict("plain", count=200, rounds=1)
    assert (cost["method"], cost["images"], cost["device"]) == ("plain", 200, "cpu")
    rounding = 0.0005 * (cost["ratio"] + cost["bare_seconds"] + 1)      # of three numbers to three digits
    assert abs(cost["ratio"] * cost["bare_seconds"] - cost["seconds"]) <= rounding and cost["ratio"] > 1
