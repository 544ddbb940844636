"""LineMod in the layout of BOP: renders of its models, crops of its frames.

Generated from book/src/61_pictures.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from cdlm.data.archives import (
    DamagedError,
    DataError,
    NotHereError,
    is_hidden,
    read_bounded,
    refuse_special,
)
from cdlm.data.cache import files_fingerprint, remembered
from cdlm.data.domain import Recipe, Split
from cdlm.data.pictures import read_picture
from cdlm.data.search import Resource, Search, first_folder
from cdlm.domains.digits import splits_of
from cdlm.domains.render import (
    Camera,
    Surface,
    render,
    sample_rotations,
    square_crop,
    surface_of,
)
from cdlm.settings import Span

__all__ = [
    "LINEMOD_CLASSES",
    "LINEMOD_NAMES",
    "LINEMOD_RECIPES",
    "LINEMOD_TERMS",
    "MAX_BOX",
    "MAX_ID",
    "View",
    "bop_camera",
    "bop_crops",
    "bop_parts",
    "bop_renders",
    "bop_scenes",
    "bop_view",
    "bop_views",
    "box_overlap",
    "load_surface",
    "read_bop_json",
    "refuse_box",
    "render_framed",
    "silhouette_box",
    "split_by_time",
]


# 61_pictures: A render and a photograph of the same pose

MAX_ID = 999_999        # six digits, as in the names of the models


class View(NamedTuple):
    """One object in one frame."""

    frame: Path             # image file
    object_id: int
    rotation: Tensor        # (3, 3), model to camera
    shift: Tensor           # (3,) in millimeters
    # left, top, width, height of the whole object, hidden parts included
    box: tuple[int, int, int, int]
    visible: float          # share of the object's pixels that is not hidden


def read_bop_json(path: Path) -> dict:
    """A JSON object of a BOP folder. Raises DamagedError."""
    try:
        content = json.loads(read_bounded(path))
    except (DataError, OSError, ValueError, RecursionError) as error:
        raise DamagedError(f"{path} cannot be read ({type(error).__name__}): "
                           "is this a folder in BOP layout, unpacked?") from None
    if not isinstance(content, dict):
        raise DamagedError(f"{path} holds no JSON object")
    return content


def bop_camera(root: Path) -> Camera:
    """The camera of a BOP data set. Raises DamagedError."""
    content = read_bop_json(root / "camera.json")
    try:
        camera = Camera(*(float(content[key]) for key in Camera._fields))
    except (KeyError, TypeError, ValueError, OverflowError):
        raise DamagedError(
            f"{root / 'camera.json'} lacks one of {', '.join(Camera._fields)}") from None
    if not all(map(math.isfinite, camera)) or min(camera.fx, camera.fy) <= 0:
        raise DamagedError(f"{root / 'camera.json'} describes no camera")
    return camera


def bop_scenes(root: Path) -> list[Path]:
    """Folders of the annotated scenes in order. Raises DamagedError where there is none."""
    scenes = sorted(path.parent for path in (root / "test").glob("*/scene_gt.json")
                    if not is_hidden(path.parent.name))
    if not scenes:
        raise DamagedError(f"{root} has no test/NNNNNN/scene_gt.json: "
                           "unpack the test images of a BOP data set there")
    return scenes


def bop_views(scene: Path) -> list[View]:
    """All annotated objects of a scene, frame by frame in the order of the video.

    Raises DamagedError.
    """
    poses, boxes = (read_bop_json(scene / "scene_gt.json"),
                    read_bop_json(scene / "scene_gt_info.json"))
    files = {int(path.stem): path for path in (scene / "rgb").glob("*.*")
             if re.fullmatch("[0-9]{1,9}", path.stem)}
    try:
        return [bop_view(files[int(frame)], pose, box) for frame in sorted(poses, key=int)
                for pose, box in zip(poses[frame], boxes[frame], strict=True)]
    except (LookupError, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise DamagedError(f"{scene}: annotation or image of a frame is missing or malformed "
                           f"({error})") from None


def bop_view(frame: Path, pose: Mapping, box: Mapping) -> View:
    """One annotated object of a frame. Raises ValueError, and what else Python has to say of
    annotations that are none."""
    number, visible = int(pose["obj_id"]), float(box["visib_fract"])
    if not 0 <= number <= MAX_ID:
        raise ValueError(f"object {number}")
    rotation = torch.tensor(pose["cam_R_m2c"], dtype=torch.float32).reshape(3, 3)
    shift = torch.tensor(pose["cam_t_m2c"], dtype=torch.float32)
    left, top, across, along = map(int, box["bbox_obj"])
    # from first to last pixel: one less than both
    return View(frame, number, rotation, shift, (left, top, across + 1, along + 1), visible)


def silhouette_box(silhouette: Tensor) -> tuple[int, int, int, int]:
    """Left, top, width and height of what is True in (H, W); all zero where nothing is."""
    rows, columns = (silhouette.any(1).nonzero().flatten(),
                     silhouette.any(0).nonzero().flatten())
    if len(rows) == 0:
        return 0, 0, 0, 0
    return (int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1),
            int(rows[-1] - rows[0] + 1))


def box_overlap(a: tuple, b: tuple) -> float:
    """Intersection over union of two boxes (left, top, width, height), in [0, 1]."""
    across = max(0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
    along = max(0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]))
    union = a[2] * a[3] + b[2] * b[3] - across * along
    return across * along / union if union else 0.0


# 61_pictures: Two domains from one folder

LINEMOD_NAMES = {1: "ape", 2: "benchvise", 4: "camera", 5: "can", 6: "cat", 8: "driller",
                 9: "duck", 10: "eggbox", 11: "glue", 12: "holepuncher", 13: "iron",
                 14: "lamp", 15: "phone"}


def load_surface(root: Path, object_id: int, count: int = 200_000) -> Surface:
    """Surface of an object's model in a BOP folder. Raises DamagedError."""
    path = root / "models" / f"obj_{object_id:06d}.ply"
    import trimesh
    try:
        refuse_special(path)
        surface = surface_of(trimesh.load(path, process=False), count)
    except Exception as error:  # trimesh raises whatever its parsers raise
        raise DamagedError(
            f"{path} cannot be read as a colored mesh ({type(error).__name__})") from None
    if not surface.points.isfinite().all() or not surface.points.std() > 0:
        raise DamagedError(f"{path} is a mesh without extent")
    return surface


def render_framed(surface: Surface, rotations: Tensor, size: int = 64,
                  margin: float = 0.1) -> Tensor:
    """Images (n, 3, size, size) uint8 of an object that fills its frame, on black, at
    rotations (n, 3, 3)."""
    centered = Surface(surface.points - (surface.points.amax(0) + surface.points.amin(0)) / 2,
                       surface.colors)
    radius = centered.points.norm(dim=1).max().item()
    large = 2 * size  # of the sphere around the object
    # 7 < 7.5: the sphere fits into the picture
    camera = Camera(7 * large / 2, 7 * large / 2, large / 2, large / 2)
    shift = torch.tensor([0.0, 0.0, 7.5 * radius]).expand(len(rotations), 3)
    images, silhouettes = render(centered, rotations, shift, camera, large, large)
    return torch.stack([square_crop(image, silhouette_box(silhouette), size, margin)
                        for image, silhouette in zip(images, silhouettes)])


def split_by_time(count: int, train_share: float = 0.7, gap: int = 5) -> tuple[range, range]:
    """Numbers of the first frames for training and of the last for testing, ``gap`` frames
    between them left out.

    Raises ValueError where nothing would be left to test.
    """
    end = round(count * train_share)
    if end < 1 or end + gap >= count:
        raise ValueError(
            f"{count} frames cannot be split with a share of {train_share} and a gap of {gap}")
    return range(end), range(end + gap, count)


def bop_parts(root: Path, visible: float = 0.5) -> tuple[list[int], list[View], list[View]]:
    """Object ids, and views to train and to test: of objects with a model, visible by more
    than the share ``visible``, split by time, and only of objects that both splits show.

    Raises DamagedError where too little is left.
    """
    models = {int(path.stem[4:]) for path in (root / "models").glob("obj_*.ply")
              if re.fullmatch("obj_[0-9]{6}", path.stem)}
    train, test = [], []
    for scene in bop_scenes(root):
        group = [view for view in bop_views(scene) if view.visible > visible
                 and view.object_id in models]
        frames = sorted({view.frame for view in group})
        try:
            parts = [{frames[i] for i in part} for part in split_by_time(len(frames))]
        except ValueError:
            raise DamagedError(f"{scene}: {len(frames)} frames show an object of which there "
                               "is a model; too few for a split by time") from None
        for split, part in zip((train, test), parts):
            split += [view for view in group if view.frame in part]
    ids = sorted({view.object_id for view in train} & {view.object_id for view in test})
    if not ids:
        raise DamagedError(f"{root}: no object is seen both to train and to test")
    return ids, *([view for view in part if view.object_id in ids] for part in (train, test))


MAX_BOX = 8         # longest side of a box, in sides of the picture


def bop_crops(root: Path, size: int = 64, visible: float = 0.5) -> tuple[list[int], Split,
                                                                         Split]:
    """Object ids, and crops of real frames (N, 3, size, size) with classes numbered in that
    order, split by time.

    Crops are taken around the annotated box, of views as bop_parts gives them. Raises
    DamagedError.
    """
    ids, *parts = bop_parts(root, visible)
    splits = []
    for views in parts:
        images, labels = [], []
        for frame, group in groupby(sorted(views, key=lambda view: view.frame),
                                    key=lambda view: view.frame):
            picture = torch.from_numpy(read_picture(frame, size=None).copy())
            for view in group:
                refuse_box(view, picture)
                images.append(square_crop(picture, view.box, size))
                labels.append(ids.index(view.object_id))
        splits.append(Split(torch.stack(images), torch.tensor(labels)))
    return ids, *splits


def refuse_box(view: View, picture: Tensor) -> None:
    """Raise DamagedError for a box that is empty, beside its picture (C, H, W), or absurdly
    large: the crop would need any amount of memory."""
    left, top, width, height = view.box
    most = MAX_BOX * max(picture.shape[1:])
    inside = (left < picture.shape[2] and top < picture.shape[1] and left + width > 0
              and top + height > 0)
    if not inside or not 0 < width <= most or not 0 < height <= most:
        raise DamagedError(f"{view.frame}: the box of object {view.object_id} is no place in "
                           f"the picture ({left}, {top}, {width}, {height})")


def bop_renders(root: Path, count: int, seed: int, size: int = 64) -> tuple[list[int], Split]:
    """Object ids, and ``count`` renders on black of each object that the photographs show.

    Raises DamagedError.
    """
    ids = bop_parts(root)[0]
    generator = torch.Generator().manual_seed(seed)
    images = [render_framed(surface, part, size)
              for surface in (load_surface(root, i) for i in ids)
              for part in sample_rotations(count, generator).split(20)]
    return ids, Split(torch.cat(images), torch.arange(len(ids)).repeat_interleave(count))


def find_bop(folder: Path) -> Path:
    """``folder`` itself if it looks like a data set in BOP layout. Raises NotHereError."""
    for name in ("camera.json", "models", "test"):
        if not (folder / name).exists():
            raise NotHereError(f"no {name} in {folder}")
    return folder


LINEMOD_FILES = Resource(
    "LineMod (BOP layout)",
    lambda place: first_folder(place, ("lm", "lmo", "linemod"), find_bop),
    "unpack the base, models and test archives of lm or lmo (bop.felk.cvut.cz/datasets) into "
    "a folder lm or lmo, and name the folder that holds it, or set CDLM_DATA to that")


def build_linemod(search: Search, kind: str,
                  renders: int = 1000) -> tuple[Split, Split, tuple[str, ...]]:
    """Renders ("3d", ``renders`` of each class to train and a fifth of that to test) or
    photographs ("real"), and the classes."""
    root = search.find(LINEMOD_FILES)
    files = [path for pattern in ("models/*.ply", "test/*/*.json", "test/*/rgb/*",
                                  "camera.json") for path in root.glob(pattern)
             if not any(map(is_hidden, path.relative_to(root).parts))]
    key = {"version": 1, "files": files_fingerprint(root, files)} | ({"renders": renders}
                                                                     if kind == "3d" else {})

    def make() -> dict[str, Tensor]:
        if kind == "real":
            ids, train, test = bop_crops(root)
        else:
            (ids, train), (_, test) = (bop_renders(root, renders, 0),
                                       bop_renders(root, max(1, renders // 5), 1))
        return {"train_images": train.images, "train_labels": train.labels,
                "test_images": test.images, "test_labels": test.labels,
                "ids": torch.tensor(ids)}
    parts = remembered(f"linemod{kind}", key, make)
    names = tuple(LINEMOD_NAMES.get(i, f"object {i}") for i in parts["ids"].tolist())
    return *splits_of(parts), names


# of LineMod-Occlusion; lm has more
LINEMOD_CLASSES = tuple(LINEMOD_NAMES[i] for i in (1, 5, 6, 8, 9, 10, 11, 12))
LINEMOD_TERMS = "as BOP states for LineMod; research use"
LINEMOD_RECIPES = (
    Recipe("linemod3d", "LineMod, renders", LINEMOD_CLASSES, (3, 64, 64), (8000, 1600),
           "rendered here from BOP's models",
           LINEMOD_TERMS, lambda search, **options: build_linemod(search, "3d", **options),
           (LINEMOD_FILES,),
           options={"renders": Annotated[int, Span(1, 10**6)]}, fixed=False),
    Recipe("linemodreal", "LineMod, photographs", LINEMOD_CLASSES, (3, 64, 64), (892, 318),
           "crops of BOP's frames, split by time",
           LINEMOD_TERMS, lambda search: build_linemod(search, "real"), (LINEMOD_FILES,),
           fixed=False),
)
