"""A folder in BOP layout, small enough to be made by every test that wants one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import trimesh
from PIL import Image

from cdlm.domains.linemod import silhouette_box
from cdlm.domains.render import Camera, render, sample_rotations, surface_of


def toy_bop(root: Path) -> Path:
    """Two objects, twenty frames: rendered by us, written as the benchmark writes them."""
    (root / "models").mkdir(parents=True)
    rgb = root / "test/000003/rgb"
    rgb.mkdir(parents=True)
    camera = Camera(100.0, 100.0, 40.0, 30.0)
    (root / "camera.json").write_text(json.dumps(camera._asdict() | {"width": 80, "height": 60, "depth_scale": 1.0}))
    poses, boxes, surfaces = {}, {}, {}
    for number, extents, color in ((1, (30, 20, 10), (250, 40, 40)), (8, (12, 12, 40), (40, 250, 40))):
        mesh = trimesh.creation.box(extents)
        mesh.visual.vertex_colors = np.tile(np.array([*color, 255], np.uint8), (len(mesh.vertices), 1))
        mesh.export(root / f"models/obj_{number:06d}.ply")
        surfaces[number] = surface_of(mesh, 4000)
    for frame in range(0, 40, 2):
        picture, poses[frame], boxes[frame] = torch.full((3, 60, 80), 128, dtype=torch.uint8), [], []
        for place, number in ((-30.0, 1), (30.0, 8)):
            rotation = sample_rotations(1, torch.Generator().manual_seed(frame + number))
            shift = torch.tensor([[place, 0.0, 200.0]])
            image, hit = render(surfaces[number], rotation, shift, camera, 60, 80)
            picture = torch.where(hit, image[0], picture)
            poses[frame].append({"cam_R_m2c": rotation.flatten().tolist(), "cam_t_m2c": shift[0].tolist(), "obj_id": number})
            visible = 0.2 if (frame, number) == (0, 8) else 1.0
            left, top, width, height = silhouette_box(hit[0])
            boxes[frame].append({"bbox_obj": [left, top, width - 1, height - 1], "visib_fract": visible})
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(rgb / f"{frame:06d}.png")
    for name, content in (("scene_gt", poses), ("scene_gt_info", boxes)):
        (root / f"test/000003/{name}.json").write_text(json.dumps(content))
    return root
