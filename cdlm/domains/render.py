"""Colored meshes drawn at any pose: a pinhole camera and a z-buffer over points.

Generated from book/src/61_pictures.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

__all__ = [
    "Camera",
    "Surface",
    "project",
    "render",
    "sample_rotations",
    "shrink",
    "square_crop",
    "surface_of",
]


# 61_pictures: Rendering: a camera, a surface, a pose

class Camera(NamedTuple):
    """A pinhole camera: focal lengths and principal point, all in pixels."""

    fx: float
    fy: float
    cx: float
    cy: float


class Surface(NamedTuple):
    """Points spread evenly over the surface of an object."""

    points: Tensor      # (N, 3) float32, in the units of the model (BOP: millimeters)
    colors: Tensor      # (N, 3) uint8


def surface_of(mesh: object, count: int = 200_000, seed: int = 0) -> Surface:
    """``count`` points on a ``trimesh.Trimesh``, evenly by area, colored from its corners."""
    from trimesh.sample import sample_surface  # loaded by those who render
    points, _, colors = sample_surface(mesh, count, sample_color=True, seed=seed)
    return Surface(torch.from_numpy(np.asarray(points, np.float32)),
                   torch.from_numpy(np.asarray(colors[:, :3], np.uint8)))


def project(points: Tensor, rotation: Tensor, shift: Tensor,
            camera: Camera) -> tuple[Tensor, Tensor]:
    """Pixels (n, N, 2) as (u, v), and depths (n, N), of points (N, 3) at n poses: rotations
    (n, 3, 3), shifts (n, 3)."""
    x = points @ rotation.transpose(1, 2) + shift[:, None]                  # (n, N, 3)
    focal, center = torch.tensor(camera[:2]), torch.tensor(camera[2:])
    return x[..., :2] / x[..., 2:] * focal + center, x[..., 2]


def render(surface: Surface, rotation: Tensor, shift: Tensor, camera: Camera, height: int,
           width: int) -> tuple[Tensor, Tensor]:
    """Images (n, 3, height, width) uint8 on black, and silhouettes (n, height, width) bool, of
    one object at n poses."""
    pixels, depth = project(surface.points, rotation, shift, camera)
    u, v = pixels.round().long().unbind(-1)                                 # (n, N)
    count, empty = len(surface.points), torch.iinfo(torch.int64).max
    seen = (u >= 0) & (u < width) & (v >= 0) & (v < height) & (depth > 0)
    key = torch.where(seen, (depth * 1000).long() * count + torch.arange(count), empty)
    place = (v * width + u).clamp(0, height * width - 1)
    nearest = torch.full((len(u), height * width), empty).scatter_reduce(1, place, key, "amin")
    hit = nearest < empty
    colors = torch.where(hit[..., None], surface.colors[nearest % count], 0).to(torch.uint8)
    return colors.transpose(1, 2).reshape(-1, 3, height, width), hit.view(-1, height, width)


# 61_pictures: Poses all around

def sample_rotations(count: int, generator: torch.Generator, in_plane: float = 45.0) -> Tensor:
    """Rotations (count, 3, 3) from an object standing along +z to cameras on its upper half
    sphere, spread evenly.

    Each camera is turned about its own axis by an angle drawn evenly from -``in_plane`` to
    ``in_plane`` degrees.
    """
    azimuth, height, turn = torch.rand(3, count, generator=generator)
    azimuth, turn = 2 * math.pi * azimuth, math.radians(in_plane) * (2 * turn - 1)
    flat = (1 - height**2).sqrt()
    # viewing direction, (count, 3)
    towards = -torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), height], -1)
    right = torch.stack([-azimuth.sin(), azimuth.cos(), torch.zeros(count)], -1)
    down = torch.linalg.cross(towards, right)
    cos, sin = turn.cos()[:, None], turn.sin()[:, None]
    return torch.stack([cos * right + sin * down, cos * down - sin * right, towards], 1)


# 61_pictures: An object to try

def shrink(images: Tensor, factor: int = 2) -> Tensor:
    """Images (n, C, H, W) uint8 averaged over squares of ``factor`` by ``factor`` pixels,
    rounded."""
    n, channels, height, width = images.shape
    parts = images.reshape(n, channels, height // factor, factor, width // factor, factor).to(
        torch.int32)
    area = factor * factor
    return ((parts.sum((3, 5)) + area // 2) // area).to(torch.uint8)


def square_crop(image: Tensor, box: tuple[float, float, float, float], size: int,
                margin: float = 0.1) -> Tensor:
    """The square around ``box`` (left, top, width, height) of an image (C, H, W), with a
    margin, at ``size`` pixels.

    ``margin`` is a share of the longer side on each side of it. What lies outside of the image
    is black.
    """
    left, top, width, height = box
    side = max(1, round(max(width, height) * (1 + 2 * margin)))
    x, y = round(left + width / 2 - side / 2), round(top + height / 2 - side / 2)
    cut = tv.crop(image, y, x, side, side)  # pads with zeros where needed
    return tv.resize(cut, [size, size], antialias=True)
