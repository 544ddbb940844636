"""Poses of what a model draws: angles, the nearest render, and whether drawings differ by more than one pose does."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toy_bop import toy_bop

from cdlm.domains.catalog import open_domain
from cdlm.domains.linemod import bop_views, load_surface, render_framed
from cdlm.domains.render import sample_rotations, surface_of
from cdlm.files import RunError
from cdlm.measurements import poses
from cdlm.measurements.poses import (
    Posed,
    by_visibility,
    chance_turn,
    draw_times,
    linemod_posed,
    linemod_views,
    pair_turns,
    pose_numbers,
    pose_record,
    posed_among,
    read_poses,
    redraw,
    seen_rotation,
    spread_in_pixels,
    turn_between,
    views_of,
    visible_record,
)
from cdlm.methods.cdlm import CDLM, CDLMConfig
from cdlm.runs.spec import RunSpec
from cdlm.settings import Images

SIZE = 32


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def about(axis: int, degrees: float) -> Tensor:
    """The turn about a coordinate axis, (3, 3)."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    i, j = [k for k in range(3) if k != axis]
    turn = torch.eye(3)
    turn[i, i], turn[j, j], turn[i, j], turn[j, i] = c, c, -s, s
    return turn


@pytest.fixture(scope="module")
def toys() -> tuple[Posed, Posed]:
    """A gallery and held-out renders of two objects that no turn brings back."""
    parts = []
    for extents, place in (((60, 14, 14), (20, 18, 0)), ((40, 30, 10), (12, 8, 18))):
        body, knob = trimesh.creation.box(extents), trimesh.creation.icosphere(radius=12).apply_translation(place)
        body.visual.vertex_colors, knob.visual.vertex_colors = (0, 120, 250, 255), (250, 160, 0, 255)
        parts.append(surface_of(trimesh.util.concatenate([body, knob]), 6000))
    def posed(count: int, seed: int) -> Posed:
        generator = seeded(seed)
        turns = [sample_rotations(count, generator) for _ in parts]
        images = torch.cat([render_framed(part, turn, SIZE) for part, turn in zip(parts, turns)])
        return Posed(images, torch.arange(2).repeat_interleave(count), torch.cat(turns))
    return posed(150, 0), posed(10, 1)


# Angles


@given(st.integers(0, 2), st.floats(0, 180), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_the_angle_between_two_poses_is_that_of_the_turn_between_them(axis: int, degrees: float, seed: int) -> None:
    """In double precision: near 0 and 180 degrees the cosine hardly changes, and float32 has tenths of a degree there."""
    start, _ = torch.linalg.qr(torch.randn(3, 3, generator=seeded(seed), dtype=torch.float64))
    start = start * torch.linalg.det(start)
    turned = about(axis, degrees).double() @ start
    assert turn_between(start, turned).item() == pytest.approx(degrees, abs=0.05)


def test_pairs_of_a_query_are_averaged() -> None:
    turns = torch.stack([about(0, 0), about(0, 30), about(0, 90)])[None]
    assert pair_turns(turns).tolist() == pytest.approx([(30 + 90 + 60) / 3], abs=1e-3)
    assert pair_turns(torch.eye(3).expand(2, 4, 3, 3)).tolist() == pytest.approx([0, 0], abs=0.03)


def test_an_object_straight_ahead_is_seen_as_it_is_annotated() -> None:
    rotation = sample_rotations(4, seeded())
    assert torch.allclose(seen_rotation(rotation, torch.tensor([[0.0, 0.0, 700.0]]).expand(4, 3)), rotation, atol=1e-6)


def test_an_object_at_the_edge_is_seen_from_aside() -> None:
    """By the angle between the line of sight and the axis; the same relative view gives the same pose wherever it is."""
    rotation, shift = sample_rotations(3, seeded()), torch.tensor([[300.0, 0.0, 300.0]]).expand(3, 3)
    seen = seen_rotation(rotation, shift)
    assert torch.allclose(seen @ seen.transpose(1, 2), torch.eye(3), atol=1e-5)
    assert turn_between(seen, rotation).tolist() == pytest.approx([45] * 3, abs=0.01)
    # a camera that turns to the right by 45 degrees has the object ahead, and sees `seen`
    ahead = torch.allclose(about(1, -45) @ shift[0], torch.tensor([0, 0, 300 * 2**0.5]), atol=1e-2)
    turned = about(1, -45) if ahead else about(1, 45)
    assert torch.allclose(turned @ shift[0], torch.tensor([0, 0, 300 * 2**0.5]), atol=1e-2)
    assert torch.allclose(turned @ rotation, seen, atol=1e-5)


# Reading


def pixels(images: Tensor) -> Tensor:
    return images.flatten(1).float()


def test_a_render_of_the_gallery_is_read_exactly(toys: tuple[Posed, Posed]) -> None:
    gallery, _ = toys
    read = read_poses(pixels(gallery.images), gallery.labels, pixels(gallery.images), gallery)
    assert torch.equal(read, gallery.rotations)


def test_held_out_renders_are_read_much_better_than_by_chance(toys: tuple[Posed, Posed]) -> None:
    gallery, held = toys
    error = turn_between(read_poses(pixels(held.images), held.labels, pixels(gallery.images), gallery), held.rotations)
    assert error.mean() < 0.5 * chance_turn(held, gallery)


def test_poses_are_read_among_renders_of_the_same_object(toys: tuple[Posed, Posed]) -> None:
    gallery, held = toys
    other = 1 - held.labels
    read = read_poses(pixels(held.images), other, pixels(gallery.images), gallery)
    for rotation, label in zip(read, other):
        assert any(torch.equal(rotation, known) for known in gallery.rotations[gallery.labels == label])



def test_the_measure_says_same_for_one_pose_and_differ_for_several(toys: tuple[Posed, Posed]) -> None:
    """On renders with known poses: noise on one pose reads alike, eight poses of an object read apart, by the right amount."""
    gallery, held = toys
    noise = 10 * torch.randn(len(held.images), 6, 3, SIZE, SIZE, generator=seeded())
    alike = (held.images[:, None] + noise).clamp(0, 255).to(torch.uint8)
    chosen = torch.randint(10, (len(held.images), 6), generator=seeded(1)) + 10 * held.labels[:, None]
    apart = held.images[chosen]
    model = CDLM(CDLMConfig.of(width=4), Images(channels=3, size=SIZE, classes=2)).eval()
    known = views_of(model, gallery.images)
    found = pose_numbers(model, held, held, {"same": alike, "trials": apart}, gallery, known)["pixels"]
    truth = pair_turns(held.rotations[chosen]).mean().item()
    assert found["same"] < 0.5 * found["trials"]
    assert found["trials"] == pytest.approx(truth, rel=0.25)
    swapped = pose_numbers(model, held, held, {"same": apart, "trials": alike}, gallery, known)["pixels"]
    assert (swapped["same"], swapped["trials"]) == (found["trials"], found["same"])
    assert found["redrawn"] < 0.5 * found["query"], "the drawings of the queries are of other poses here"


def test_chance_is_the_mean_over_all_pairs_of_an_object(toys: tuple[Posed, Posed]) -> None:
    gallery, held = toys
    pairs = [turn_between(a, b).item() for a, k in zip(held.rotations[:3], held.labels[:3])
             for b, n in zip(gallery.rotations, gallery.labels) if k == n]
    assert chance_turn(Posed(*(part[:3] for part in held)), gallery) == pytest.approx(sum(pairs) / len(pairs), abs=1e-3)


def test_the_spread_in_pixels_is_a_share_of_that_between_images() -> None:
    base = torch.randint(40, 200, (50, 1, 3, 8, 8), generator=seeded()).to(torch.uint8)
    assert spread_in_pixels(base.expand(-1, 5, -1, -1, -1)) == 0
    mixed = torch.randint(40, 200, (50, 5, 3, 8, 8), generator=seeded(1)).to(torch.uint8)
    assert spread_in_pixels(mixed) == pytest.approx(1, abs=0.05)


def test_some_are_chosen_at_random_of_the_labels_that_are_kept(toys: tuple[Posed, Posed]) -> None:
    gallery, _ = toys
    some = posed_among(gallery, [1], 7)
    assert len(some.labels) == 7 and set(some.labels.tolist()) == {1} and len(posed_among(gallery, [0]).labels) == 150
    assert torch.equal(some.images, posed_among(gallery, [1], 7).images)
    assert not torch.equal(some.images, posed_among(gallery, [1], 7, seed=1).images)


# Drawing


@pytest.mark.parametrize("domain", ["source", "target"])
def test_drawings_repeat_for_a_seed_and_differ_between_times(domain: str) -> None:
    torch.manual_seed(0)
    model = CDLM(CDLMConfig.of(width=4), Images(channels=3, size=SIZE, classes=2)).eval()
    images, partners = (torch.randint(256, (n, 3, SIZE, SIZE), generator=seeded(n)).to(torch.uint8) for n in (3, 9))
    drawn = draw_times(model, images, partners, domain, 4)
    assert set(drawn) == {"x_hat", "x_tilde"} and all(x.shape == (3, 4, 3, SIZE, SIZE) and x.dtype == torch.uint8
                                                      for x in drawn.values())
    again = draw_times(model, images, partners, domain, 4)
    assert all(torch.equal(drawn[name], again[name]) for name in drawn)
    assert all(not torch.equal(x[:, 0], x[:, 1]) for x in drawn.values())


def test_a_partner_moves_what_is_drawn_with_it_and_nothing_else() -> None:
    torch.manual_seed(0)
    model = CDLM(CDLMConfig.of(width=4), Images(channels=3, size=SIZE, classes=2)).eval()
    images, one, other = (torch.randint(256, (3, 3, SIZE, SIZE), generator=seeded(n)).to(torch.uint8) for n in range(3))
    first, second = (redraw(model, images, partners, "target", seeded()) for partners in (one, other))
    assert torch.equal(first["x_tilde"], second["x_tilde"]) and not torch.equal(first["x_hat"], second["x_hat"])


# By visible share


def test_images_are_counted_by_visible_share() -> None:
    right = torch.tensor([True, False, True, True])
    found = by_visibility(right, torch.tensor([0.51, 0.7, 0.71, 1.0]))
    assert [(row["images"], row["right"]) for row in found] == [(2, 1), (1, 1), (0, 0), (1, 1)]
    assert (found[0]["above"], found[-1]["to"]) == (0.5, 1.0)


# On a folder in BOP layout


@pytest.fixture
def linemod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple:
    """A small LineMod, and its two domains."""
    monkeypatch.setenv("CDLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CDLM_DATA", str(tmp_path))
    root = toy_bop(tmp_path / "lmo")
    return root, open_domain("linemod3d", "full", renders=6), open_domain("linemodreal", "full")


def test_rotations_are_those_that_the_renders_were_made_at(linemod: tuple) -> None:
    root, source, target = linemod
    train, test, photographs = linemod_posed(root, source, target)
    for posed, split in ((train, source.train), (test, source.test)):
        assert torch.equal(posed.images, split.images)
        for label, number in enumerate((1, 8)):
            mine = posed.labels == label
            assert torch.equal(render_framed(load_surface(root, number), posed.rotations[mine]), posed.images[mine])
    assert len(photographs.labels) == len(target.test) == len(linemod_views(root))


def test_photographs_have_the_poses_of_their_annotations(linemod: tuple) -> None:
    root, source, target = linemod
    views, posed = linemod_views(root), linemod_posed(root, source, target)[2]
    for view, rotation in zip(views, posed.rotations):
        assert torch.allclose(rotation, seen_rotation(view.rotation[None], view.shift[None])[0], atol=1e-6)
    frames = [view.frame for view in bop_views(root / "test/000003")]
    assert {view.frame for view in views} <= set(frames[-8:]), "the last frames, and no other"


def test_other_photographs_than_annotated_are_refused(linemod: tuple) -> None:
    root, source, target = linemod
    other = replace(target, test=replace(target.test, labels=1 - target.test.labels))
    with pytest.raises(RunError, match="the photographs are not those of"):
        linemod_posed(root, source, other)


def test_records_of_a_run_hold_numbers_only(linemod: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    root, source, target = linemod
    torch.manual_seed(0)
    model = CDLM(CDLMConfig.of(width=4), Images(channels=3, size=64, classes=2)).eval()
    loaded = RunSpec("cdlm", "linemod3d", "linemodreal", 3), model, source, target
    for name in ("load_trained", "load_labeled"):
        monkeypatch.setattr(poses, name, lambda folder: loaded)
    record = pose_record(Path("run"), count=2, times=3)
    assert (record["seed"], record["objects"]) == (3, ["ape", "driller"])
    for path in ("x_hat", "x_tilde"):
        for values in record["paths"][path]["views"].values():
            assert set(values) == {"reading", "redrawn", "same", "trials", "query"}
            assert all(0 <= value <= 180 for value in values.values())
    seen = visible_record(Path("run"))
    assert sum(row["images"] for row in seen["by_visibility"]) == len(target.test)
    assert sum(row["right"] for row in seen["by_visibility"]) == round(seen["accuracy"] * len(target.test))
    assert len(str(record)) < 5000 and str(root) not in f"{record} {seen}"


def test_a_run_on_other_domains_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = RunSpec("cdlm", "mnist", "usps"), None, None, None
    for name, record in (("load_trained", pose_record), ("load_labeled", visible_record)):
        monkeypatch.setattr(poses, name, lambda folder: loaded)
        with pytest.raises(RunError, match="run is a run on usps; give one on linemodreal"):
            record(Path("run"))
