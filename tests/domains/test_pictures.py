"""Domains that are made: renders against geometry and annotated photographs, sketches against their formula, edges."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.feature import canny
from toy_bop import toy_bop

from cdlm.data.archives import DamagedError
from cdlm.domains.catalog import open_domain, overview
from cdlm.domains.drawn import FOOTWEAR, class_files, partition_faces
from cdlm.domains.linemod import (
    bop_camera,
    bop_crops,
    bop_renders,
    bop_scenes,
    bop_views,
    box_overlap,
    load_surface,
    render_framed,
    silhouette_box,
    split_by_time,
)
from cdlm.domains.render import Camera, Surface, project, render, sample_rotations, shrink, square_crop, surface_of
from cdlm.domains.samples import load_domain
from cdlm.domains.sketch import canny_edges, draw_half, pencil_sketch, to_gray

CAMERA = Camera(50.0, 60.0, 16.0, 12.0)
AHEAD = torch.eye(3)[None]
REAL = Path(os.environ.get("CDLM_DATA", "nowhere")) / "lmo"


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Rendering


def test_a_point_is_seen_where_the_pinhole_formula_says():
    rotation, _ = torch.linalg.qr(torch.randn(4, 3, 3, generator=seeded(), dtype=torch.float64))
    points, shift = torch.randn(5, 3, generator=seeded(1)), torch.tensor([[0.5, -0.2, 9.0]]).expand(4, 3)
    pixels, depth = project(points, rotation.float(), shift, CAMERA)
    for pose in range(4):
        for point in range(5):
            x, y, z = (rotation[pose].float() @ points[point] + shift[pose]).tolist()
            assert pixels[pose, point].tolist() == pytest.approx([50 * x / z + 16, 60 * y / z + 12], rel=1e-4)
            assert depth[pose, point].item() == pytest.approx(z, rel=1e-5)


def test_of_two_points_on_a_ray_the_nearer_is_seen_whatever_their_order():
    red, blue = torch.tensor([255, 0, 0], dtype=torch.uint8), torch.tensor([0, 0, 255], dtype=torch.uint8)
    near, far = torch.tensor([0.2, 0.1, 1.0]), torch.tensor([0.4, 0.2, 2.0])       # one ray from the camera's center
    for points, colors in (((near, far), (red, blue)), ((far, near), (blue, red))):
        surface = Surface(torch.stack(points), torch.stack(colors))
        image, hit = render(surface, AHEAD, torch.zeros(1, 3), CAMERA, 24, 32)
        assert hit.sum() == 1 and hit[0, 18, 26]                                    # v = 60 * 0.1 + 12, u = 50 * 0.2 + 16
        assert image[0, :, 18, 26].tolist() == red.tolist()
        assert image.sum() == 255


def test_points_behind_the_camera_or_outside_the_frame_are_not_seen():
    points = torch.tensor([[0.0, 0.0, -1.0], [9.0, 0.0, 1.0], [0.0, -9.0, 1.0]])
    image, hit = render(Surface(points, torch.full((3, 3), 200, dtype=torch.uint8)), AHEAD, torch.zeros(1, 3), CAMERA, 24, 32)
    assert not hit.any() and not image.any()


def test_poses_are_rendered_independently():
    surface = surface_of(trimesh.creation.box([20, 10, 5]), 2000)
    rotations, shift = sample_rotations(3, seeded()), torch.tensor([[0.0, 0.0, 60.0]])
    together, _ = render(surface, rotations, shift.expand(3, 3), CAMERA, 24, 32)
    for rotation, image in zip(rotations, together):
        assert torch.equal(render(surface, rotation[None], shift, CAMERA, 24, 32)[0][0], image)


def test_surface_points_lie_on_the_mesh_evenly_and_repeat_for_a_seed():
    mesh = trimesh.creation.box([2.0, 4.0, 8.0])
    surface = surface_of(mesh, 40_000)
    on_face = ((surface.points.abs() - torch.tensor([1.0, 2.0, 4.0])).abs() < 1e-5)
    assert on_face.any(1).all()
    shares = on_face.float().mean(0)                                               # of the area 32, 16, 8 of each pair
    for share, expected in zip(shares.tolist(), (32 / 56, 16 / 56, 8 / 56)):
        assert abs(share - expected) < 5 * math.sqrt(0.25 / 40_000)
    assert torch.equal(surface.points, surface_of(mesh, 40_000).points)
    assert not torch.equal(surface.points, surface_of(mesh, 40_000, seed=1).points)


def test_cameras_cover_the_upper_half_sphere_evenly_and_turn_within_bounds():
    rotations = sample_rotations(20_000, seeded(), in_plane=30.0)
    assert torch.allclose(rotations @ rotations.transpose(1, 2), torch.eye(3).expand(20_000, 3, 3), atol=1e-5)
    assert torch.allclose(torch.linalg.det(rotations), torch.ones(20_000), atol=1e-5)
    place = -rotations[:, 2]                                                       # of the camera on the unit sphere
    assert (place[:, 2] >= 0).all()
    height = place[:, 2].sort().values
    assert (height - torch.linspace(0, 1, 20_000)).abs().max() < 1.63 / math.sqrt(20_000)      # Kolmogorov, one percent
    assert place[:, :2].mean(0).abs().max() < 5 * math.sqrt(1 / 3 / 20_000)
    up = torch.stack([-rotations[:, 1, 2], rotations[:, 0, 2]], 1)                 # the object's z, seen in the picture
    turn = torch.atan2(up[:, 1], up[:, 0])
    level = (1 - place[:, 2] ** 2) > 1e-4
    assert turn[level].abs().max() <= math.radians(30.0) + 1e-3 and turn[level].abs().max() > math.radians(29.0)


@given(st.integers(0, 1000), st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_shrinking_averages_squares(seed, factor):
    images = torch.randint(0, 256, (2, 3, 4 * factor, 5 * factor), generator=seeded(seed), dtype=torch.uint8)
    expected = torch.nn.functional.avg_pool2d(images.double(), factor)
    assert (shrink(images, factor).double() - expected).abs().max() <= 0.5
    assert shrink(images, factor).shape == (2, 3, 4, 5)


def test_a_crop_is_a_square_around_the_box_and_black_outside_of_the_image():
    image = torch.zeros(1, 40, 60, dtype=torch.uint8)
    image[0, 10:20, 30:36] = 200
    cut = square_crop(image, (30, 10, 6, 10), 12, margin=0.1)
    assert cut.shape == (1, 12, 12) and cut[0, 1:11, 3:9].float().mean() == 200 and cut.sum() == 200 * 60
    corner = square_crop(torch.full((3, 10, 10), 9, dtype=torch.uint8), (-5, -5, 10, 10), 10, margin=0.0)
    assert (corner[:, 5:, 5:] == 9).all() and corner.sum() == 9 * 25 * 3


def test_framed_renders_fill_the_frame_alike():
    surface = surface_of(trimesh.creation.box([20, 60, 90]), 30_000)
    images = render_framed(surface, sample_rotations(6, seeded()), size=40, margin=0.1)
    assert images.shape == (6, 3, 40, 40) and images.dtype == torch.uint8
    for image in images:
        _, _, width, height = silhouette_box(image.amax(0) > 60)
        assert 31 <= max(width, height) <= 36                                      # 40 / 1.2 is 33.3


# Boxes and splits


def test_box_of_a_silhouette():
    mask = torch.zeros(8, 9, dtype=torch.bool)
    assert silhouette_box(mask) == (0, 0, 0, 0)
    mask[2:5, 3] = mask[4, 3:8] = True
    assert silhouette_box(mask) == (3, 2, 5, 3)


@given(*[st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(0, 8)] * 2)] * 2)
@settings(max_examples=100, deadline=None)
def test_overlap_counts_pixels(a, b):
    def mask(box):
        m = np.zeros((24, 24), bool)
        m[box[1] : box[1] + box[3], box[0] : box[0] + box[2]] = True
        return m
    union = (mask(a) | mask(b)).sum()
    assert box_overlap(a, b) == pytest.approx((mask(a) & mask(b)).sum() / union if union else 0)
    assert box_overlap(a, b) == box_overlap(b, a)


@given(st.integers(2, 500), st.floats(0.1, 0.9), st.integers(0, 20))
@settings(max_examples=100, deadline=None)
def test_a_split_by_time_keeps_its_distance(count, share, gap):
    try:
        train, test = split_by_time(count, share, gap)
    except ValueError:
        assert round(count * share) < 1 or round(count * share) + gap >= count
        return
    assert train[0] == 0 and test[-1] == count - 1 and test[0] - train[-1] == gap + 1


# A folder in BOP layout


@pytest.fixture
def bop(tmp_path: Path) -> Path:
    return toy_bop(tmp_path / "tiny")


def test_crops_are_cut_split_and_labeled(bop):
    ids, train, test = bop_crops(bop, size=32)
    assert ids == [1, 8]
    assert train.images.shape == (27, 3, 32, 32) and test.images.shape == (2, 3, 32, 32)     # 14 frames, a gap of 5, 1 frame
    assert train.labels.bincount().tolist() == [14, 13]                                     # one instance was mostly hidden
    for image, label in zip(train.images, train.labels):
        red, green, _ = image[:, 13:19, 13:19].float().mean((1, 2))
        assert (green > red) == bool(label)


def test_domains_of_a_bop_folder_share_their_classes(bop, tmp_path, monkeypatch):
    monkeypatch.setenv("CDLM_CACHE", str(tmp_path / "cache"))
    bop.rename(bop.parent / "lmo")
    rendered = open_domain("linemod3d", size="full", root=tmp_path, renders=5)
    photographed = open_domain("linemodreal", size="full", root=tmp_path)
    assert rendered.classes == photographed.classes == ("ape", "driller") and rendered.size == photographed.size == "full"
    assert rendered.train.images.shape == (10, 3, 64, 64) and rendered.test.labels.tolist() == [0, 1]
    assert len(photographed.train) == 27 and photographed.channels == 3
    again = open_domain("linemod3d", size="full", root=tmp_path, renders=5)
    assert torch.equal(rendered.train.images, again.train.images)
    assert not torch.equal(rendered.train.images[0], rendered.test.images[0])


def test_renders_repeat_for_a_seed(bop):
    ids, first = bop_renders(bop, 2, seed=0, size=16)
    assert ids == [1, 8] and first.labels.tolist() == [0, 0, 1, 1]
    assert torch.equal(first.images, bop_renders(bop, 2, seed=0, size=16)[1].images)
    assert not torch.equal(first.images, bop_renders(bop, 2, seed=1, size=16)[1].images)


def test_annotated_poses_rendered_fall_into_their_boxes(bop):
    camera = bop_camera(bop)
    for view in bop_views(bop_scenes(bop)[0])[:6]:
        _, hit = render(load_surface(bop, view.object_id), view.rotation[None], view.shift[None], camera, 60, 80)
        assert box_overlap(view.box, silhouette_box(hit[0])) > 0.9


@pytest.mark.parametrize("damage, message", [
    (lambda root: (root / "camera.json").unlink(), "camera.json cannot be read"),
    (lambda root: (root / "camera.json").write_text("{}"), "lacks one of fx"),
    (lambda root: (root / "camera.json").write_text("[1]"), "holds no JSON object"),
    (lambda root: (root / "camera.json").write_text("<html>not found</html>"), "cannot be read"),
    (lambda root: (root / "test/000003/scene_gt.json").unlink(), "no test/NNNNNN/scene_gt.json"),
    (lambda root: (root / "test/000003/scene_gt_info.json").write_text("{}"), "missing or malformed"),
    (lambda root: (root / "test/000003/rgb/000006.png").unlink(), "missing or malformed"),
    (lambda root: (root / "test/000003/rgb/000006.png").write_bytes(b"no image"), "000006.png cannot be used as an image"),
    (lambda root: (root / "models/obj_000001.ply").write_text("ply\nformat ascii 1.0\n"), "cannot be read as a colored mesh"),
])
def test_damage_is_named(bop, damage, message):
    damage(bop)
    with pytest.raises(DamagedError, match=message):
        bop_camera(bop)
        bop_crops(bop, 32)
        load_surface(bop, 1)


def edit(path: Path, change) -> None:
    """Change what a JSON file holds, in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def for_each(key: str, value: object, number: int | None = None):
    """Set a key of all entries, or of one object's: the first is 1, the second 8."""
    def change(frames: dict) -> None:
        for entries in frames.values():
            for place, entry in enumerate(entries):
                if number in (None, (1, 8)[place]):
                    entry[key] = value
    return change


def keep(count: int):
    def change(frames: dict) -> None:
        for frame in list(frames)[count:]:
            del frames[frame]
    return change


POSES, BOXES = "test/000003/scene_gt.json", "test/000003/scene_gt_info.json"


@pytest.mark.parametrize("damage, message", [
    (lambda root: [edit(root / name, keep(7)) for name in (POSES, BOXES)], "7 frames show an object .*too few for a split by time"),
    (lambda root: [edit(root / name, keep(0)) for name in (POSES, BOXES)], "0 frames show an object"),
    (lambda root: edit(root / BOXES, for_each("visib_fract", 0.0)), "0 frames show an object"),
    (lambda root: edit(root / BOXES, for_each("visib_fract", float("nan"))), "0 frames show an object"),
    (lambda root: [path.unlink() for path in root.glob("models/*.ply")], "0 frames show an object"),
    (lambda root: edit(root / BOXES, for_each("bbox_obj", [0, 0, 10**6, 10**6])), "box of object 1 is no place in the picture"),
    (lambda root: edit(root / BOXES, for_each("bbox_obj", [10**9, 0, 10, 10])), "is no place in the picture"),
    (lambda root: edit(root / BOXES, for_each("bbox_obj", [-1, -1, -1, -1])), "is no place in the picture"),
    (lambda root: edit(root / BOXES, for_each("bbox_obj", [float("nan"), 0, 10, 10])), "missing or malformed"),
    (lambda root: edit(root / BOXES, for_each("bbox_obj", [float("inf"), 0, 10, 10])), "missing or malformed"),
    (lambda root: edit(root / BOXES, for_each("bbox_obj", "abcd")), "missing or malformed"),
    (lambda root: edit(root / POSES, for_each("obj_id", 10**30)), "missing or malformed .object 1000000"),
    (lambda root: edit(root / POSES, for_each("obj_id", -1)), "missing or malformed .object -1"),
    (lambda root: edit(root / POSES, for_each("cam_R_m2c", [1] * 8)), "missing or malformed"),
    (lambda root: edit(root / POSES, for_each("cam_t_m2c", None)), "missing or malformed"),
    (lambda root: edit(root / POSES, lambda frames: frames.update(x=[])), "missing or malformed"),
    (lambda root: (root / BOXES).write_text("[" * 100_000), "cannot be read .RecursionError"),
    (lambda root: (root / "camera.json").write_text('{"fx": NaN, "fy": 1, "cx": 0, "cy": 0}'), "describes no camera"),
    (lambda root: (root / "camera.json").write_text('{"fx": 1%s, "fy": 1, "cx": 0, "cy": 0}' % ("0" * 400)), "lacks one of fx"),
    (lambda root: trimesh.Trimesh([[0, 0, 0]] * 3, [[0, 1, 2]], process=False).export(root / "models/obj_000001.ply"),
     "mesh without extent|cannot be read as a colored mesh"),
    (lambda root: (root / BOXES).unlink() or os.mkfifo(root / BOXES), "cannot be read .DamagedError"),
    (lambda root: (root / "models/obj_000001.ply").unlink() or os.mkfifo(root / "models/obj_000001.ply"),
     "cannot be read as a colored mesh"),
])  # fmt: skip
def test_annotations_that_cannot_be_are_named(bop, damage, message):
    damage(bop)
    with pytest.raises(DamagedError, match=message) as caught:
        bop_camera(bop)
        bop_crops(bop, 32)
        load_surface(bop, 1)
    assert "\n" not in str(caught.value)


def test_an_object_that_is_always_hidden_is_no_class_of_either_domain(bop, tmp_path, monkeypatch):
    monkeypatch.setenv("CDLM_CACHE", str(tmp_path / "cache"))
    edit(bop / BOXES, for_each("visib_fract", 0.3, 8))
    bop.rename(bop.parent / "lmo")
    rendered = open_domain("linemod3d", size="full", root=tmp_path, renders=2)
    photographed = open_domain("linemodreal", size="full", root=tmp_path)
    assert rendered.classes == photographed.classes == ("ape",)
    assert set(rendered.train.labels.tolist()) == set(photographed.test.labels.tolist()) == {0}


def test_an_object_that_is_seen_in_one_part_only_is_no_class(bop):
    def hide_at_the_end(frames: dict) -> None:
        for frame, entries in frames.items():
            if int(frame) > 20:
                entries[1]["visib_fract"] = 0.0
    edit(bop / BOXES, hide_at_the_end)
    ids, train, test = bop_crops(bop, 32)
    assert ids == bop_renders(bop, 1, 0, 16)[0] == [1] and set(train.labels.tolist()) == {0}


def test_models_and_frames_of_other_names_are_no_part_of_it(bop):
    """Leftovers of systems, and a model that is not numbered in six digits."""
    first = bop_crops(bop, 32)
    (bop / "models/obj_foo.ply").write_text("")
    (bop / "models/obj_99999999999999999999.ply").write_text("")
    (bop / "models/._obj_000002.ply").write_bytes(b"\0\5\x16\7")
    (bop / "test/000003/rgb/._000000.png").write_bytes(b"\0\5\x16\7")
    (bop / "test/000003/rgb/\u00b2.png").write_bytes(b"")
    (bop / "test/.ipynb_checkpoints").mkdir()
    (bop / "test/.ipynb_checkpoints/scene_gt.json").write_text("{}")
    again = bop_crops(bop, 32)
    assert again[0] == first[0] and torch.equal(again[1].images, first[1].images)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs LineMod-Occlusion in BOP layout: set CDLM_DATA to the folder that has lmo/")
def test_renders_at_annotated_poses_overlap_the_photographs():
    """Every twentieth frame, objects wholly inside of it: the box of the silhouette and the annotated box agree."""
    camera, views = bop_camera(REAL), bop_views(bop_scenes(REAL)[0])
    frames = sorted({view.frame for view in views})[::20]
    surfaces = {number: load_surface(REAL, number) for number in {view.object_id for view in views}}
    overlaps = []
    for view in views:
        left, top, width, height = view.box
        if view.frame in frames and left >= 0 and top >= 0 and left + width <= 640 and top + height <= 480:
            _, hit = render(surfaces[view.object_id], view.rotation[None], view.shift[None], camera, 480, 640)
            overlaps.append(box_overlap(view.box, silhouette_box(hit[0])))
    assert len(overlaps) > 70 and min(overlaps) > 0.9 and sorted(overlaps)[len(overlaps) // 2] > 0.95


# Drawings


def noise(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=seeded(), dtype=torch.uint8)


def test_gray_is_that_of_pillow():
    images = noise(4, 3, 16, 16)
    for image, gray in zip(images, to_gray(images)):
        expected = np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L"))
        assert np.abs(gray[0].numpy() * 255 - expected).max() <= 1
    assert torch.equal(to_gray(images[:, :1]), images[:, :1].float() / 255)


def test_a_sketch_is_gray_dodged_by_its_blurred_negative():
    """Against the rule of painting programs, a / (1 - b), with the blur of scipy."""
    from scipy.ndimage import gaussian_filter

    image = noise(1, 3, 40, 40)
    gray = to_gray(image)[0, 0].double().numpy()
    negative = gaussian_filter(1 - gray, 2.0, mode="mirror", truncate=3.0)
    expected = np.minimum(1, gray / (1 - negative)) * 255
    assert np.abs(pencil_sketch(image, 2.0)[0, 0].double().numpy() - expected).max() < 3


def test_sketches_leave_out_what_is_even():
    assert (pencil_sketch(torch.full((2, 1, 20, 20), 77, dtype=torch.uint8)) == 255).all()
    assert (pencil_sketch(torch.zeros(1, 3, 20, 20, dtype=torch.uint8)) == 255).all()
    line = torch.full((1, 1, 21, 21), 200, dtype=torch.uint8)
    line[..., 10] = 50
    drawn = pencil_sketch(line, 3.0)[0, 0]
    assert drawn[:, 10].max() < 90 and drawn[:, 0].min() == 255


def test_edges_are_those_of_canny_black_on_white():
    images = noise(3, 3, 24, 24)
    for image, edges in zip(images, canny_edges(images, 2.0)):
        assert set(edges.unique().tolist()) <= {0, 255}
        gray = to_gray(image[None])[0, 0].numpy()
        assert np.array_equal(edges[0].numpy() == 0, canny(gray, sigma=2.0))


def test_two_halves_share_no_image_and_drawings_keep_labels():
    digits = load_domain("mnist")
    first, test = draw_half(digits.train, digits.test, lambda images: images, second=False)
    second, drawn_test = draw_half(digits.train, digits.test, pencil_sketch)
    assert len(first) + len(second) == len(digits.train) and len(test) == len(drawn_test) == len(digits.test)
    assert torch.equal(first.images, digits.train.images[0::2]) and torch.equal(first.labels, digits.train.labels[0::2])
    assert torch.equal(second.labels, digits.train.labels[1::2])
    assert torch.equal(second.images[700:702], pencil_sketch(digits.train.images[1401:1404:2]))


# Faces and shoes in folders


@pytest.fixture
def pictures(tmp_path, monkeypatch) -> Path:
    """Forty faces and two classes of shoes, as random pictures, and an empty cache."""
    monkeypatch.setenv("CDLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CDLM_DATA", raising=False)
    random = np.random.default_rng(0)
    for folder, count in (("celeba/img_align_celeba", 40), ("shoes/Boots", 15), ("shoes/Sandals", 11)):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(1, count + 1):
            Image.fromarray(random.integers(0, 256, (89, 109, 3), np.uint8)).save(tmp_path / folder / f"{number:06d}.jpg")
    return tmp_path


def test_faces_and_sketches_share_no_picture_in_training_and_all_in_the_test(pictures):
    faces, sketches = (open_domain(name, size="full", root=pictures) for name in ("faces", "sketches"))
    assert faces.train.images.shape == (16, 3, 64, 64) and sketches.train.images.shape == (16, 1, 64, 64)
    assert len(faces.test) == len(sketches.test) == 8 and faces.classes == () and set(faces.train.labels.tolist()) == {-1}
    assert torch.equal(pencil_sketch(faces.test.images), sketches.test.images)
    drawn = pencil_sketch(faces.train.images).flatten(1).float()
    assert torch.cdist(drawn, sketches.train.images.flatten(1).float()).min() > 1000


def test_shoes_have_the_classes_of_their_folders(pictures):
    shoes, edges = (open_domain(name, size="full", root=pictures) for name in ("shoes", "edges"))
    assert shoes.classes == edges.classes == ("Boots", "Sandals")
    assert shoes.train.labels.bincount().tolist() == [6, 5] and shoes.test.labels.bincount().tolist() == [3, 2]
    assert torch.equal(canny_edges(shoes.test.images), edges.test.images)


def test_numbers_that_the_folder_decides_on_are_not_claimed_before_it_is_read(pictures):
    rows = {row["name"]: row for row in overview(pictures)}
    for name in ("faces", "sketches", "shoes", "edges"):
        assert (rows[name]["here"], rows[name]["train"], rows[name]["test"]) == ("full", None, None)
    assert (rows["linemodreal"]["here"], rows["linemodreal"]["train"]) == ("none", 0)
    assert rows["optdigits"]["train"] == 1297


def test_a_damaged_face_is_named_and_nothing_is_kept(pictures):
    (pictures / "celeba/img_align_celeba/000007.jpg").write_bytes(b"<html>no face here</html>")
    with pytest.raises(DamagedError, match="000007.jpg"):
        open_domain("faces", size="full", root=pictures)
    assert not list((pictures / "cache").rglob("*.npy"))


def test_changed_pictures_are_drawn_anew(pictures):
    before = open_domain("edges", size="full", root=pictures).test.images.clone()
    for path in (pictures / "shoes").rglob("*.jpg"):
        Image.new("RGB", (60, 40), (200, 10, 10)).save(path)
    after = open_domain("edges", size="full", root=pictures).test.images
    assert not torch.equal(before, after) and (after == 255).float().mean() > 0.9


def test_one_class_of_shoes_is_refused(pictures):
    for path in (pictures / "shoes/Boots").iterdir():
        path.unlink()
    with pytest.raises(DamagedError, match="two classes or more"):
        open_domain("shoes", size="full", root=pictures)


def test_a_class_of_one_shoe_is_refused_and_leftovers_are_none(pictures):
    (pictures / "shoes/.ipynb_checkpoints").mkdir()
    (pictures / "shoes/.ipynb_checkpoints/1.jpg").write_bytes(b"")
    (pictures / "shoes/Boots/._000001.jpg").write_bytes(b"\0\5\x16\7")
    assert open_domain("shoes", size="full", root=pictures).classes == ("Boots", "Sandals")
    (pictures / "shoes/Slippers").mkdir()
    Image.new("L", (9, 9)).save(pictures / "shoes/Slippers/1.jpg")
    with pytest.raises(DamagedError, match="class 'Slippers' has one image only"):
        open_domain("shoes", size="full", root=pictures)


def test_official_partition_of_faces_goes_by_number():
    files = [Path(f"{number:06d}.jpg") for number in (1, 162_770, 162_771, 182_637, 182_638, 202_599)]
    assert [[path.stem for path in part] for part in partition_faces(files)] == [["000001", "162770"], ["182638", "202599"]]
    train, test = partition_faces(files[:1] + [Path(f"{n:06d}.jpg") for n in range(2, 11)])
    assert (len(train), len(test)) == (8, 2) and test[-1].stem == "000010"


def test_the_last_fifth_of_each_class_is_for_testing(pictures):
    groups = class_files(pictures / "shoes")
    assert [len(part) for part in groups["Boots"]] == [12, 3] and groups["Boots"][1][-1].stem == "000015"


@pytest.mark.skipif(not Path("/usr/share/datasets/fashion-mnist").is_dir(), reason="needs Debian's dataset-fashion-mnist")
def test_footwear_of_fashion_stands_in_for_shoes(tmp_path, monkeypatch):
    monkeypatch.setenv("CDLM_CACHE", str(tmp_path))
    monkeypatch.delenv("CDLM_DATA", raising=False)
    shoes, edges = open_domain("shoes"), open_domain("edges")
    assert shoes.size == edges.size == "partial" and shoes.classes == tuple(FOOTWEAR.values())
    assert shoes.train.images.shape == (9000, 3, 64, 64) and edges.test.images.shape == (3000, 1, 64, 64)
    assert shoes.train.labels.bincount().float().std() < 100 and shoes.train.images[:, :, 0].float().mean() > 250


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real sets: set CDLM_DATA")
@pytest.mark.parametrize("name, train, test", [
    ("faces", 1732, 866), ("sketches", 1732, 866), ("shoes", 3000, 1500), ("edges", 3000, 1500), ("linemodreal", 892, 318),
])
def test_real_sets(name, train, test, tmp_path, monkeypatch):
    monkeypatch.setenv("CDLM_CACHE", str(tmp_path))
    domain = open_domain(name, size="full")
    assert (len(domain.train), len(domain.test)) == (train, test)
    assert domain.train.images.shape[1:] == ((1 if name in ("sketches", "edges") else 3), 64, 64)
