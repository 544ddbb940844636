"""Drawings of stored runs: the right ones, so many, in a folder that is whole or not there."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from halves import ODDITIES, half_run, odd_pictures
from PIL import Image

from cdlm.files import RunError
from cdlm.use.prediction import open_model
from cdlm.use.translation import as_picture, draw_way, tiled, translate_run, walk


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in color of a method with a decoder, hardly trained."""
    return half_run(tmp_path_factory.mktemp("drawing"), "cdlm", steps=3)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return odd_pictures(tmp_path_factory.mktemp("odd") / "photos")


READ = [name for name, seen in ODDITIES.items() if seen]


@pytest.mark.parametrize("samples", [0, 3])
def test_each_image_has_its_drawings(samples: int, drawing: Path, odd: Path, tmp_path: Path) -> None:
    count, skipped = translate_run(drawing, [str(odd)], tmp_path / "out", samples=samples)
    rows = list(csv.DictReader((tmp_path / "out/drawings.csv").open()))
    assert count == len(rows) == len(READ) * max(1, samples) and len(skipped) == len(ODDITIES) - len(READ)
    assert [Path(row["file"]).name for row in rows[:: max(1, samples)]] == READ
    assert [row["draw"] for row in rows[: max(1, samples)]] == [str(n + 1) for n in range(max(1, samples))]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"drawings.csv", *(row["drawing"] for row in rows)}
    with Image.open(tmp_path / "out" / rows[0]["drawing"]) as picture:
        assert picture.mode == "RGB" and picture.size == (28, 28)


def test_drawings_are_those_of_the_networks(drawing: Path) -> None:
    model = open_model(drawing)
    images = torch.randint(256, (6, 3, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    x = images.float() / 127.5 - 1
    with torch.no_grad():
        h = model.method.encoder(x).h
        mean = model.method.decoder(h)
        eps = torch.randn(2, 4, generator=torch.Generator().manual_seed(7))
        noisy = torch.stack([model.method.decoder(h + 0.1 * e) for e in eps], 1)
    way = draw_way(model, images)
    torch.testing.assert_close(way.x_t, x)
    torch.testing.assert_close(way.x_tilde_t[:, 0], mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(draw_way(model, images, 2, 7).x_tilde_t, noisy, rtol=1e-4, atol=1e-4)
    alone = torch.cat([draw_way(model, part, 2, 7).x_tilde_t for part in images.split(1)])
    torch.testing.assert_close(alone, noisy, rtol=1e-4, atol=1e-4)


def test_a_walk_leads_from_one_drawing_to_the_other(drawing: Path) -> None:
    model = open_model(drawing)
    images = torch.randint(256, (5, 3, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    steps, way = walk(model, images, 4), draw_way(model, images)
    assert steps.shape == (4, 5, 3, 28, 28)
    torch.testing.assert_close(steps[0], way.x_hat_ts, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(steps[-1], way.x_tilde_t[:, 0], rtol=1e-4, atol=1e-4)


def test_sheet_way_and_animation(drawing: Path, odd: Path, tmp_path: Path) -> None:
    translate_run(drawing, [str(odd)], tmp_path / "out", samples=2, grid=True, gif=True)
    with Image.open(tmp_path / "out/sheet.png") as sheet:       # four times an image with two drawings, and what is left over
        assert sheet.size == (12 * 30 + 2, 3 * 30 + 2)
    with Image.open(tmp_path / "out/way.png") as way:
        assert way.width > way.height > 100
    with Image.open(tmp_path / "out/way.gif") as film:
        assert film.n_frames >= 2 and film.size == (3 * 30 + 2, 3 * 30 + 2)


def test_a_picture_has_the_values_of_its_image() -> None:
    image = torch.tensor([[[-1.0, 0.0], [1.0, 3.0]]])
    assert np.asarray(as_picture(image)).tolist() == [[0, 128], [255, 255]] and as_picture(image).mode == "L"
    assert as_picture(image.expand(3, -1, -1)).getpixel((1, 1)) == (255, 255, 255)
    assert tiled(image.expand(5, 1, 2, 2), 3).size == (14, 10)


def test_a_method_without_a_decoder_is_refused_and_nothing_written(odd: Path, tmp_path: Path) -> None:
    folder = half_run(tmp_path / "plain", "plain", steps=2)
    with pytest.raises(RunError, match="run was trained by plain, which draws no images from modulated codes"):
        translate_run(folder, [str(odd)], tmp_path / "out")
    with pytest.raises(RunError, match="draws no images"):
        draw_way(open_model(folder), torch.zeros(1, 3, 28, 28, dtype=torch.uint8))
    assert not (tmp_path / "out").exists()


def test_nothing_is_left_of_what_fails(drawing: Path, odd: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for words, out, how, message in [
        ([str(odd)], "there", {}, "exists already; name another, or remove it"),
        ([str(odd / "notes.txt")], "new", {}, "none of these 1 files is an image"),
        ([str(odd)], "new", {"strict": True}, "empty.png is left out"),
        (["nowhere/"], "new", {}, "there is no folder or archive"),
    ]:
        with pytest.raises(RuntimeError, match=message):
            translate_run(drawing, words, tmp_path / out, **how)
    assert sorted(tmp_path.rglob("*")) == before
