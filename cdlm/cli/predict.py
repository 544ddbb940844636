"""Commands that use a stored run on new images.

Generated from book/src/90_command_line.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cdlm.cli.common import (
    DEVICE_OPTION,
    JSON_OPTION,
    SEED_OPTION,
    choose_device,
    clear_errors,
    tell,
)
from cdlm.domains.catalog import FOLDER_OPTIONS
from cdlm.files import RunError, json_text
from cdlm.settings import quoted
from cdlm.speed.predicting import bench_predict
from cdlm.use.prediction import check_new, csv_of, json_of, predict_run, write_new

__all__ = [
    "bench_predict_command",
    "check_fit",
    "predict_command",
    "tell_left_out",
    "translate_command",
]


# 90_command_line: The commands

RUN_ARGUMENT = typer.Argument(help="folder of a run")
IMAGES_ARGUMENT = typer.Argument(help="images, folders or archives of them, patterns such as "
                                 "'photos/*.jpg', names of domains")
TABLE_OPTION = typer.Option(help="new file for the table, such as predictions.csv; - is "
                            "standard output")
PATH_OPTION = typer.Option(help="what is read: x_t, x_hat_ts, x_tilde_t or h, as far as the "
                           "method has it; by default what it is measured by")
TOP_OPTION = typer.Option(min=1, max=10**6, help="so many classes for each image")
NOISE_OPTION = typer.Option(min=0, max=2**63 - 1, help="read with this noise, the same for "
                            "all images, and not at the mean of the code")
STRICT_OPTION = typer.Option("--strict", help="stop at what is no image, and write nothing")
FIT_OPTION = typer.Option(help="the middle square (crop), all of it on a ground (pad), or "
                          "stretch")
GROUND_OPTION = typer.Option(min=0, max=255, help="gray value under transparent pixels")
PLACE_OPTION = typer.Option(help="where the images of the run's source are")


def check_fit(fit: str) -> None:
    """Raise RunError for a way to fit a picture into a square that there is not."""
    if fit not in FOLDER_OPTIONS["fit"]:
        known = ", ".join(FOLDER_OPTIONS["fit"])
        raise RunError(f"fit is {quoted(fit)}; it must be one of {known}")


def tell_left_out(messages: list[str]) -> None:
    """A line for each file that was no image."""
    for message in messages:
        tell(f"note: {message}", err=True)


def predict_command(
    folder: Annotated[Path, RUN_ARGUMENT], images: Annotated[list[str], IMAGES_ARGUMENT],
    out: Annotated[Path, TABLE_OPTION], path: Annotated[str | None, PATH_OPTION] = None,
    top: Annotated[int, TOP_OPTION] = 1, strict: Annotated[bool, STRICT_OPTION] = False,
    seed: Annotated[int | None, NOISE_OPTION] = None,
    fit: Annotated[str, FIT_OPTION] = "crop",
    ground: Annotated[int, GROUND_OPTION] = 255,
    source: Annotated[str | None, PLACE_OPTION] = None,
    device: Annotated[str, DEVICE_OPTION] = "auto",
    as_json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Read new images by a stored run: a line with class, probability, entropy and trust for
    each."""
    piped = str(out) == "-"
    with clear_errors():
        check_fit(fit)
        if not piped:
            check_new(out)
        found = predict_run(folder, images, path, seed, strict, fit, ground, source,
                            choose_device(device))
        text = json_of(found, top) if as_json else csv_of(found, top)
        tell_left_out(found.skipped)
        tell(text.rstrip("\n")) if piped else write_new(out, text)
    tell(f"{len(found.files)} images, {len(found.skipped)} files left out, path {found.path}, "
         f"estimated accuracy {found.estimated_accuracy:.2f}: {out}", err=piped)
    for sentence in found.doubts:
        tell(f"note: {sentence}", err=True)


def translate_command(
    folder: Annotated[Path, RUN_ARGUMENT], images: Annotated[list[str], IMAGES_ARGUMENT],
    out: Annotated[Path, typer.Option(help="new folder for the drawings")],
    samples: Annotated[int, typer.Option(min=0, max=1000, help="drawings of each image, each "
                                         "with another noise; 0: one, without noise")] = 0,
    seed: Annotated[int, SEED_OPTION] = 0,
    grid: Annotated[bool, typer.Option("--grid", help="also a contact sheet, and a picture of "
                                       "the way from x_t to x_tilde_t")] = False,
    gif: Annotated[bool, typer.Option("--gif", help="also the way as an animation")] = False,
    strict: Annotated[bool, STRICT_OPTION] = False,
    fit: Annotated[str, FIT_OPTION] = "crop",
    ground: Annotated[int, GROUND_OPTION] = 255,
    source: Annotated[str | None, PLACE_OPTION] = None,
    device: Annotated[str, DEVICE_OPTION] = "auto",
) -> None:
    """Draw source-like images of new target images, by a stored run with a decoder."""
    from cdlm.use.translation import translate_run  # draws figures, which no training needs

    with clear_errors():
        check_fit(fit)
        count, skipped = translate_run(folder, images, out, samples, seed, grid, gif, strict,
                                       fit, ground, source, choose_device(device))
        tell_left_out(skipped)
    tell(f"{count} drawings, {len(skipped)} files left out: {out}")


def bench_predict_command(
    method: Annotated[str, typer.Option(help="whose networks")] = "cdlm",
    device: Annotated[str, DEVICE_OPTION] = "cpu",
    as_json: Annotated[bool, JSON_OPTION] = False
) -> None:
    """Measure the table of 10,000 images of 28 x 28 after loading, against the bare forward
    passes."""
    with clear_errors():
        facts = bench_predict(method, device=choose_device(device))
    tell(json_text(facts) if as_json else f"{facts['images']} images in {facts['seconds']} s, "
         f"{facts['ratio']} times the forward passes ({facts['bare_seconds']} s); "
         f"{facts['method']}, {facts['device']}, {facts['threads']} threads")
