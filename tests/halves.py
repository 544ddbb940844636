"""Pictures of which one half is bright, and stored runs that tell which: whatever is done to a picture shows in its class."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from cdlm.runs.run import run
from cdlm.runs.spec import RunSpec

HALVES = {"bottom": np.s_[14:, :], "left": np.s_[:, :14], "right": np.s_[:, 14:], "top": np.s_[:14, :]}


def half(name: str, bright: int = 230, dark: int = 20) -> np.ndarray:
    """A gray picture (28, 28) with one bright half."""
    pixels = np.full((28, 28), dark, np.uint8)
    pixels[HALVES[name]] = bright
    return pixels


def half_pictures(folder: Path, count: int = 8, seed: int = 0, names: tuple[str, ...] = tuple(HALVES)) -> Path:
    """A folder for each half, of pictures in color that are not all the same."""
    dice = np.random.default_rng(seed)
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = half(name, dice.integers(170, 256), dice.integers(0, 90))[:, :, None] * np.ones(3)
            noisy = np.clip(pixels + dice.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / name / f"{number}.png")
    return folder


def half_run(place: Path, method: str = "source", steps: int = 80, **settings: object) -> Path:
    """A run on such pictures, which are beside it."""
    source, target = half_pictures(place / "labeled"), half_pictures(place / "others", seed=1)
    settings = {"width": 8, "lr": 0.01} if method == "source" else {"width": 2, "latent": 4} | settings
    spec = RunSpec(method, str(source), str(target), steps=steps, batch_size=16, settings=settings)
    run(spec, place / "run", log_every=steps)
    return place / "run"


def deep(pixels: np.ndarray) -> Image.Image:
    """A gray picture of 16 bits."""
    return Image.fromarray(pixels.astype(np.uint16) * 257)


# what the folder of oddities holds, and the class of each file; None for what is no image
ODDITIES = {
    "alpha.png": "left", "animated.gif": "bottom", "cmyk.jpg": "right", "deep.png": "top", "empty.png": None, "gray.bmp": "right",
    "large.webp": "bottom", "notes.txt": None, "palette.png": "top", "torn.png": None, "turned.jpg": "top", "wrong.gif": "left",
}  # fmt: skip


def odd_pictures(folder: Path) -> Path:
    """A folder of pictures as people have them, by ODDITIES, among them three files that are no images, and one hidden one."""
    folder.mkdir(parents=True)
    ink = np.zeros((28, 28, 4), np.uint8)
    ink[HALVES["right"]] = (20, 20, 20, 255)                # left is transparent: the white ground
    Image.fromarray(ink).save(folder / "alpha.png")
    frames = [Image.fromarray(half(name)) for name in ("bottom", "top")]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(half("right")).convert("RGB").convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    deep(half("top")).save(folder / "deep.png")
    (folder / "empty.png").write_bytes(b"")
    Image.fromarray(half("right")).save(folder / "gray.bmp")
    Image.fromarray(half("bottom")).resize((500, 300)).save(folder / "large.webp")
    (folder / "notes.txt").write_text("taken on a Monday")
    Image.fromarray(half("top")).convert("P").save(folder / "palette.png")
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 99), np.uint8)).save(content, "PNG")
    (folder / "torn.png").write_bytes(content.getvalue()[:4000])
    exif = Image.Exif()
    exif[0x0112] = 6                                        # to be turned clockwise: the left half comes on top
    Image.fromarray(half("left")).save(folder / "turned.jpg", exif=exif, quality=95)
    Image.fromarray(half("left")).save(folder / "wrong.gif", "PNG")
    (folder / ".hidden.png").write_bytes(b"")
    return folder
