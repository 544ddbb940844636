"""Commands that train, evaluate and record runs.

Generated from book/src/90_command_line.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from cdlm.cli.common import (
    DEVICE_OPTION,
    SKIP_OPTION,
    choose_device,
    clear_errors,
    is_first,
    leaving_out,
    parse_settings,
    tell,
)
from cdlm.data.augment import Augment
from cdlm.domains.catalog import SIZES
from cdlm.files import json_text
from cdlm.methods.registry import METHODS
from cdlm.runs.run import evaluate, is_checked, joined_record, run, store_record
from cdlm.runs.spec import RunSpec
from cdlm.training.callbacks import Callback, OnLog, TensorBoard

__all__ = [
    "accuracies",
    "boards",
    "evaluate_command",
    "note_unchecked",
    "record_command",
    "run_with_bar",
    "train_command",
]


# 90_command_line: The commands

CHANGES = [change.name for change in fields(Augment)]
SOURCE_ARGUMENT = typer.Argument(help="labeled domain, such as mnist, "
                                 "or a folder with a folder for each class")
TARGET_ARGUMENT = typer.Argument(help="unlabeled domain, such as usps, or a folder of images")
STORE_OPTION = typer.Option(help="new folder for config, metrics and weights")
METHOD_OPTION = typer.Option(help=f"one of: {', '.join(METHODS)}")
STEPS_OPTION = typer.Option(min=1, help="fixed number of updates; the last weights are kept")
BATCH_OPTION = typer.Option(min=2, help="images of each domain in a step, over all processes")
SETTING_OPTION = typer.Option("--set", help="such as gamma1=0.5; repeatable")
AUGMENT_OPTION = typer.Option(
    help=f"random change to all images, such as degrees=10; repeatable; {', '.join(CHANGES)}")
STRONG_OPTION = typer.Option(
    help="the same for target images that come a second time, for training on own predictions")
SIZE_OPTION = typer.Option(help=f"how much of the data: {', '.join(SIZES)}, "
                           "or one for each, as sample,full")


PRECISION_OPTION = typer.Option(help="float32, or bfloat16 where that is fast")
CHANNELS_OPTION = typer.Option("--channels-last", help="another order of memory, faster on "
                               "some GPUs")
COMPILE_OPTION = typer.Option("--compile/--no-compile", help="compile the networks; needs a "
                              "C++ compiler")
LOG_OPTION = typer.Option(min=1, help="steps from one row of the log to the next")
BOARD_OPTION = typer.Option(help="folder for curves to look at with TensorBoard; each run has "
                            "a folder of its name in it")
EVERY_OPTION = typer.Option(min=0, help="steps from one checkpoint to the next; 0 keeps none, "
                            "and the run cannot be resumed")


def train_command(
    source: Annotated[str, SOURCE_ARGUMENT], target: Annotated[str, TARGET_ARGUMENT],
    out: Annotated[Path, STORE_OPTION], method: Annotated[str, METHOD_OPTION] = "cdlm",
    seed: Annotated[int, typer.Option(min=0)] = 0, steps: Annotated[int, STEPS_OPTION] = 1500,
    batch_size: Annotated[int, BATCH_OPTION] = 64,
    setting: Annotated[list[str] | None, SETTING_OPTION] = None,
    augment: Annotated[list[str] | None, AUGMENT_OPTION] = None,
    strong: Annotated[list[str] | None, STRONG_OPTION] = None,
    size: Annotated[str, SIZE_OPTION] = "best",
    precision: Annotated[str, PRECISION_OPTION] = "float32",
    device: Annotated[str, DEVICE_OPTION] = "auto",
    channels_last: Annotated[bool, CHANNELS_OPTION] = False,
    compile: Annotated[bool, COMPILE_OPTION] = False,
    log_every: Annotated[int, LOG_OPTION] = 50,
    checkpoint_every: Annotated[int, EVERY_OPTION] = 500,
    tensorboard: Annotated[Path | None, BOARD_OPTION] = None,
    skip_damaged: Annotated[bool, SKIP_OPTION] = False,
) -> None:
    """Train a method from a labeled source to an unlabeled target, and store the run; a killed
    one is resumed."""
    how = {"log_every": log_every, "checkpoint_every": checkpoint_every,
           "channels_last": channels_last, "compile": compile}
    with clear_errors(), leaving_out(skip_damaged):
        spec = RunSpec(method, source, target, seed, steps, batch_size,
                       parse_settings(setting), size, precision, parse_settings(augment),
                       parse_settings(strong))
        run_with_bar(spec, out, choose_device(device), how, boards(tensorboard, out))


def boards(folder: Path | None, out: Path) -> list[Callback]:
    """Who draws the curves of a run that is stored in ``out``: TensorBoard, if it has a
    folder, in the first of several processes."""
    return [TensorBoard(folder / out.name)] if folder is not None and is_first() else []


def run_with_bar(spec: RunSpec, out: Path, device: str, how: dict[str, int | bool],
                 others: Iterable[Callback] = ()) -> None:
    """Run, with a progress bar where somebody looks at it and ``others`` who are told, and
    tell what came out."""
    with tqdm(total=spec.steps, unit="step",
              disable=None if is_first() else True) as bar:
        def show(row: dict) -> None:
            bar.update(row["step"] - bar.n)
            bar.set_postfix({name: f"{value:.3g}"
                             for name, value in row.items() if name != "step"})
        metrics = run(spec, out, device, [OnLog(show), *others], **how)
    if metrics:
        tell(f"{accuracies(metrics)}, last of {spec.steps} steps, "
             f"{metrics['seconds']:.0f} s: {out}")


def accuracies(metrics: dict) -> str:
    """What to say of accuracies; a target that is a folder without classes has none."""
    target = (f"{metrics['target_accuracy']:.4f}"
              if "target_accuracy" in metrics else "unknown, for want of labels")
    return f"target accuracy {target} (source {metrics['source_accuracy']:.4f})"


def evaluate_command(
    folder: Annotated[Path, typer.Argument(help="folder of a run")],
    source: Annotated[str | None, typer.Option(help="where its source's images are")] = None,
    target: Annotated[str | None, typer.Option(help="where its target's images are")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print a JSON object")] = False,
    skip_damaged: Annotated[bool, SKIP_OPTION] = False,
) -> None:
    """Measure a stored run again: the same number, or the reason why not."""
    with clear_errors(), leaving_out(skip_damaged):
        metrics = evaluate(folder, source, target)
        note_unchecked([folder])
    tell(json_text(metrics) if as_json else accuracies(metrics))


def note_unchecked(folders: list[Path]) -> None:
    """Say of which runs files could not be checked, since they were stored without
    checksums."""
    for folder in folders:
        if not is_checked(folder):
            tell(f"not checked: {folder} was stored without checksums of its files", err=True)


def record_command(path: Annotated[Path, typer.Argument(help="JSON file to write, "
                                                        "such as book/results/NAME.json")],
                   folders: Annotated[list[Path], typer.Argument(
                       help="folders of runs that differ in their seed only")]) -> None:
    """Join runs of several seeds into a record that chapters can read."""
    with clear_errors():
        store_record(path, joined_record(folders))
        note_unchecked(folders)
    tell(f"{path}: {len(folders)} runs")
