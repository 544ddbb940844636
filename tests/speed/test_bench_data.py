"""Feeding a network: augmentation, the measurement beside a DataLoader, and the commands about data."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer
from click.testing import Result
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from cdlm.cli.app import bench_app, data_app
from cdlm.data.augment import Augment, augment_images, convolved, draw_augmented, restyled
from cdlm.data.batches import draw
from cdlm.data.domain import Split
from cdlm.domains.samples import load_domain
from cdlm.speed.feeding import PlainMNIST, bench_data


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int = 6, channels: int = 1, side: int = 28) -> torch.Tensor:
    return torch.rand(count, channels, side, side, generator=generator(9)) * 2 - 1


def test_nothing_is_changed_by_default() -> None:
    assert torch.equal(augment_images(images(), Augment(), generator()), images())


def test_flips_and_inversions_are_exact() -> None:
    x = images()
    assert torch.allclose(augment_images(x, Augment(flip=1), generator()), x.flip(3), atol=1e-5)
    assert torch.equal(augment_images(x, Augment(invert=1), generator()), -x)
    some = augment_images(images(400), Augment(invert=0.25), generator())
    share = (some[:, 0, 0, 0] * images(400)[:, 0, 0, 0] < 0).double().mean()
    assert abs(share - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 400)


def blob(count: int, side: int = 65) -> torch.Tensor:
    """A bright spot right of the center of a dark image."""
    x = torch.full((count, 1, side, side), -1.0)
    x[:, :, 31:34, 47:50] = 1
    return x


def centers(x: torch.Tensor) -> torch.Tensor:
    """Center of the brightness, (N, 2) as (right, down), in shares of the side, from the middle."""
    weight, place = (x[:, 0] + 1), (torch.arange(x.shape[-1]) + 0.5) / x.shape[-1] - 0.5
    total = weight.sum((1, 2))
    return torch.stack([(weight.sum(1) * place).sum(1), (weight.sum(2) * place).sum(1)], 1) / total[:, None]


# Other textures and colors


def test_what_is_not_asked_draws_no_random_number() -> None:
    before, after = generator(), generator()
    augment_images(images(5, 3), Augment(contrast=0.5), before)
    torch.rand(8, 5, generator=after)
    assert torch.equal(before.get_state(), after.get_state())
    for how in (Augment(convolve=1), Augment(by_channel=1), Augment(exchange=1)):
        augment_images(images(5, 3), how, one := generator())
        assert not torch.equal(one.get_state(), after.get_state())


def test_each_channel_gets_a_color_of_its_own() -> None:
    """Within a channel it is one affine map, within the ranges that were asked for."""
    x = 0.2 * images(300, 1).expand(-1, 3, -1, -1)
    y = restyled(x, Augment(contrast=0.5, brightness=0.3, invert=0.5, by_channel=1), generator())
    a, b = (y[..., 0, 1] - y[..., 0, 0]) / (x[..., 0, 1] - x[..., 0, 0]), None
    b = y[..., 0, 0] - a * x[..., 0, 0]
    assert torch.allclose(y, a[..., None, None] * x + b[..., None, None], atol=1e-3)
    assert a.abs().min() >= 0.5 - 1e-3 and a.abs().max() <= 1.5 + 1e-3 and b.abs().max() <= 0.3 + 1e-3
    assert 0.4 < (a < 0).float().mean() < 0.6 and ((a[:, 0] < 0) != (a[:, 1] < 0)).float().mean() > 0.4
    some = restyled(x, Augment(contrast=0.5, by_channel=0.25), generator())
    assert 0.15 < (some != x).flatten(1).any(1).float().mean() < 0.35


def test_channels_change_places_and_nothing_else() -> None:
    x = images(400, 3)
    y = restyled(x, Augment(exchange=1), generator())
    orders = [(y[:, [j], 0, 0] == x[:, :, 0, 0]).long().argmax(1) for j in range(3)]
    order = torch.stack(orders, 1)
    assert torch.equal(x[torch.arange(400)[:, None], order], y)
    assert len({tuple(row) for row in order.tolist()}) == 6 and torch.equal(order.sort(1).values, torch.arange(3).expand(400, 3))
    gray = images(4).expand(-1, 3, -1, -1)
    assert torch.equal(restyled(gray, Augment(exchange=1), generator()), gray)


def test_random_convolutions_by_hand() -> None:
    """The side and the kernels are those of the same random numbers; each image has its own kernel and its own share."""
    sides = set()
    for seed in range(12):
        x, g = images(3, 2, 9).double(), generator(seed)
        found = convolved(x, generator(seed))
        side = 2 * int(torch.randint(4, (1,), generator=g)) + 1
        kernels = torch.randn(6, 2, side, side, generator=g, dtype=torch.float64) / (2**0.5 * side)
        share = torch.rand(3, 1, 1, 1, generator=g, dtype=torch.float64)
        for i in range(3):
            padded = torch.nn.functional.pad(x[i : i + 1], (side // 2,) * 4, mode="replicate")
            filtered = torch.nn.functional.conv2d(padded, kernels[2 * i : 2 * i + 2])[0]
            assert torch.allclose(found[i], (1 - share[i]) * x[i] + share[i] * filtered, atol=1e-9)
        sides.add(side)
    assert sides == {1, 3, 5, 7}


def test_restyled_images_stay_in_range_and_are_the_same_for_a_seed() -> None:
    how, x = Augment(contrast=1, brightness=2, invert=0.5, by_channel=1, exchange=1, convolve=1), images(8, 3)
    y = augment_images(x, how, generator(4))
    assert y.shape == x.shape and y.abs().max() <= 1 and torch.equal(y, augment_images(x, how, generator(4)))
    assert not torch.equal(y, augment_images(x, how, generator(5)))


@pytest.mark.parametrize("how, inside", [
    (Augment(degrees=30), lambda r, angle: (r - 0.246).abs().max() < 0.01 and 25 < angle.max() <= 31 and -31 <= angle.min() < -25),
    (Augment(scale=0.2), lambda r, angle: angle.abs().max() < 1 and 0.19 < r.min() < 0.22 and 0.27 < r.max() < 0.3),
])  # fmt: skip
def test_turning_and_scaling_reach_as_far_as_asked(how: Augment, inside) -> None:
    moved = centers(augment_images(blob(200), how, generator()))
    assert inside(moved.norm(dim=1), torch.rad2deg(torch.atan2(moved[:, 1], moved[:, 0])))


def test_moving_reaches_as_far_as_asked() -> None:
    moved = centers(augment_images(blob(300), Augment(shift=0.1), generator())) - centers(blob(1))
    assert 0.09 < moved.abs().max() < 0.105 and moved.mean(0).abs().max() < 0.02


def test_brightness_and_contrast_stay_in_range() -> None:
    x = torch.full((500, 1, 4, 4), 0.5)
    bright = augment_images(x, Augment(brightness=0.2), generator())[:, 0, 0, 0]
    contrast = augment_images(x, Augment(contrast=0.4), generator())[:, 0, 0, 0]
    assert 0.3 <= bright.min() < 0.31 and 0.69 < bright.max() <= 0.7
    assert 0.3 <= contrast.min() < 0.31 and 0.69 < contrast.max() <= 0.7
    assert augment_images(images(), Augment(brightness=2, contrast=1), generator()).abs().max() <= 1


@given(st.integers(1, 5), st.sampled_from([1, 3]), st.integers(4, 33), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_shapes_ranges_and_seeds(count: int, channels: int, side: int, seed: int) -> None:
    how = Augment(20, 0.1, 0.2, 0.5, 0.3, 0.3, 0.5)
    x = images(count, channels, side)
    first, again = (augment_images(x, how, generator(seed)) for _ in range(2))
    assert first.shape == x.shape and first.abs().max() <= 1 and torch.equal(first, again)


def test_what_is_asked_does_not_change_what_is_drawn_next() -> None:
    states = []
    for how in (Augment(), Augment(degrees=5), Augment(5, 0.1, 0.2, 0.5, 0.3, 0.3, 0.5)):
        g = generator()
        augment_images(images(), how, g)
        states.append(g.get_state())
    assert torch.equal(states[0], states[1]) and torch.equal(states[0], states[2])


def test_batches_are_expanded_and_augmented() -> None:
    split = load_domain("mnist").test
    plain, labels = draw(split, 8, generator())
    x, y = draw_augmented(split, 8, generator(), channels=3)
    assert torch.equal(x, plain.expand(-1, 3, -1, -1)) and torch.equal(y, labels)
    turned, _ = draw_augmented(split, 8, generator(), Augment(degrees=10), channels=3)
    assert turned.shape == (8, 3, 28, 28) and not torch.equal(turned, x)


def test_the_dataloader_beside_us_gives_the_same_images() -> None:
    """What we are compared with does the same work: the same pixels in the same range."""
    split = Split(torch.arange(256).repeat(49)[: 16 * 784].reshape(16, 1, 28, 28).to(torch.uint8), torch.arange(16) % 10)
    theirs = PlainMNIST(split)
    assert len(theirs) == 16
    for number in range(16):
        x, y = theirs[number]
        assert torch.allclose(x, split.images[number] / 127.5 - 1, atol=1e-6) and y == split.labels[number]


def test_the_measurement_has_its_keys(no_data: Path) -> None:
    facts = bench_data(batches=2, batch_size=4)
    assert {"images_per_s", "over_dataloader", "fraction_of_step"} <= set(facts) and json.dumps(facts)
    assert facts["images"] == 4000 and 0 < facts["fraction_of_step"] < 1 and facts["images_per_s"] > 0


# Commands


def command(group: typer.Typer, *words: object) -> Result:
    return CliRunner().invoke(group, [str(word) for word in words])


def test_list_tells_all_domains(no_data: Path) -> None:
    rows = {row["name"]: row for row in json.loads(command(data_app, "list", "--json").stdout)}
    assert rows["mnist"]["here"] == "sample" and rows["usps"]["here"] == "none" and rows["mnist"]["license"]
    assert not no_data.exists()
    table = command(data_app, "list").stdout.splitlines()
    assert len(table) == len(rows) + 1 and table[1].split()[:3] == ["mnist", "sample", "package"]


def test_info(no_data: Path) -> None:
    facts = json.loads(command(data_app, "info", "fashionm", "--json").stdout)
    assert facts["channels"] == 3 and facts["options"]["background"] == ["photos", "noise"] and len(facts["classes"]) == 10
    shown = command(data_app, "info", "fashionm").stdout
    assert "Ankle boot" in shown and shown.count("CDLM_DATA") == 2


def test_fetch(no_data: Path) -> None:
    assert command(data_app, "fetch", "optdigits").stdout == "optdigits: full set, 1297 + 500 images, by scikit-learn\n"
    for words, message in ((("fetch", "mnist", "--offline"), "download: switched off"), (("info", "mars"), "unknown domain 'mars'"),
                           (("list", "--root", no_data / "gone"), "is not a folder"),
                           (("fetch", "mnistm", "--set", "seed=0", "--set", "sky=1"), "has no option 'sky'")):
        done = command(data_app, *words)
        assert done.exit_code == 1 and done.stderr.startswith("error: ") and message in done.stderr


def test_fetch_tells_what_was_left_out(no_data: Path, tmp_path: Path) -> None:
    for number in range(3):
        Image.new("L", (9, 9)).save(tmp_path / f"{number}.png")
    (tmp_path / "1.png").write_bytes(b"broken")
    done = command(data_app, "fetch", tmp_path, "--set", "skip_damaged=true")
    assert "full set, 1 + 1 images, by folder" in done.stdout and "left out: " in done.stderr and "1.png" in done.stderr


def test_the_measurement_is_a_command(no_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"images_per_s": 10, "dataloader_images_per_s": 1, "over_dataloader": 10.0, "fraction_of_step": 0.01, "device": "cpu"}
    monkeypatch.setattr("cdlm.cli.bench.bench_data", lambda device: facts | {"device": device})
    assert json.loads(command(bench_app, "data", "--json").stdout) == facts
    assert command(bench_app, "data").stdout == "10 images/s, 10.0 times a DataLoader (1), 1.00% of a training step; cpu\n"


@pytest.mark.slow
def test_the_groups_hang_on_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "cdlm", "data", "--help"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and all(word in done.stdout for word in ("list", "info", "fetch"))
