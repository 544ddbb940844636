"""Commands that measure what things cost.

Generated from book/src/75_fast.md, book/src/90_command_line.md by `make sync`: edit there, not
here.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from cdlm.data.domain import OpenedDomain
from cdlm.domains.catalog import check_classes, find_recipe, locate_all, open_domain
from cdlm.files import RunError, json_text, need_place, write_json
from cdlm.provenance import provenance
from cdlm.speed.feeding import bench_data
from cdlm.speed.ladder import measure_step, step_table
from cdlm.speed.machine import load_of_machine
from cdlm.speed.race import measure_race, race_line
from cdlm.speed.sizes import measure_sizes, sizes_table

__all__ = [
    "OUT_OPTION",
    "accuracy_table",
    "bench_accuracy_command",
    "bench_any_step_command",
    "bench_data_command",
    "bench_step_command",
    "check_place",
    "default_target",
    "gray_pair",
    "keep_record",
]


# 75_fast: All of it in one command

OUT_OPTION = typer.Option(help="also write the record to this JSON file")


def check_place(out: Path | None) -> None:
    """Raise RunError if a file was named that cannot be written."""
    if out is not None:
        need_place(out, lambda old: "measured" in old)


def keep_record(facts: dict, out: Path | None) -> None:
    """Write a record if a file was named."""
    if out is not None:
        need_place(out, lambda old: old.get("measured") == facts["measured"])
        write_json(out, facts)


def bench_step_command(
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps")] = "cpu",
    quick: Annotated[bool, typer.Option("--quick", help="fewer ways and sizes, "
                                        "less than a minute")] = False,
    compiled: Annotated[bool, typer.Option("--compiled", help="also compiled networks; "
                                           "compiling takes minutes")] = False,
    out: Annotated[Path | None, OUT_OPTION] = None,
    as_json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Measure a training step, fused and as printed, in several ways, against what the machine
    could do."""
    with clear_errors():
        check_place(out)
        facts = measure_step(choose_device(device), quick, compiled)
        keep_record(facts, out)
    tell(json_text(facts) if as_json else step_table(facts))


def default_target() -> str:
    """USPS where its images are, else the optical digits of a package."""
    return "usps" if locate_all(find_recipe("usps"))[0] == "full" else "optdigits"


def gray_pair(source: str, target: str) -> tuple[OpenedDomain, OpenedDomain]:
    """Two domains of one channel, by name; raises RunError if they have more, or no labels."""
    domains = open_domain(source), open_domain(target)
    if not all(domain.classes for domain in domains):
        raise RunError("the race is between domains with labels, which stop the clock")
    check_classes(*domains)
    if any(domain.channels != 1 for domain in domains):
        raise RunError("the race is between gray domains, such as mnist, optdigits and usps")
    return domains


def accuracy_table(record: Mapping[str, object]) -> str:
    """A record of the race as the text that the command prints."""
    head = (f"{record['source']} to {record['target']}, until target accuracy "
            f"{record['threshold']} or {record['steps']} steps "
            "(labels stop the clock, nothing else)")
    rows = [f"  {name:20} {race_line(row)}" for name, row in record["racers"].items()]
    return "\n".join([head, *rows])


def bench_accuracy_command(
    source: Annotated[str, typer.Argument(help="labeled domain")] = "mnist",
    target: Annotated[str, typer.Argument(help="unlabeled domain; by default usps where its "
                                          "images are, else optdigits")] = "",
    threshold: Annotated[float, typer.Option(min=0.0, max=1.0, help="target accuracy at which "
                                             "the clock stops")] = 0.75,
    steps: Annotated[int, typer.Option(min=1, max=10**9, help="end of the race")] = 1500,
    batch_size: Annotated[int, typer.Option(min=2, max=2**16)] = 64,
    seed: Annotated[int, SEED_OPTION] = 0,
    out: Annotated[Path | None, OUT_OPTION] = None,
    as_json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Measure the seconds to a stated target accuracy, ours and DANN of skada and
    pytorch-adapt. A stopwatch, not a result."""
    with clear_errors():
        check_place(out)
        target = target or default_target()
        domains, load = gray_pair(source, target), load_of_machine()
        rows = measure_race(*domains, threshold, steps, batch_size, seed)
        facts = {"measured": "seconds to accuracy", "source": source, "target": target,
                 "threshold": threshold, "steps": steps, "batch_size": batch_size,
                 "seed": seed, "data": [domain.found for domain in domains], "racers": rows,
                 "provenance": provenance("cpu"),
                 "load": [round(load, 2), round(load_of_machine(), 2)]}
        keep_record(facts, out)
    tell(json_text(facts) if as_json else accuracy_table(facts))


# 90_command_line: The commands

def bench_data_command(
    device: Annotated[str, DEVICE_OPTION] = "cpu",
    as_json: Annotated[bool, JSON_OPTION] = False
) -> None:
    """Measure images per second, beside torchvision's DataLoader and a training step, in one
    run."""
    with clear_errors():
        facts = bench_data(choose_device(device))
    tell(json_text(facts)
         if as_json else f"{facts['images_per_s']} images/s, {facts['over_dataloader']} "
         f"times a DataLoader ({facts['dataloader_images_per_s']}), "
         f"{facts['fraction_of_step']:.2%} of a training step; {facts['device']}")


def bench_any_step_command(
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps")] = "cpu",
    quick: Annotated[bool, typer.Option("--quick", help="fewer ways and sizes, "
                                        "less than a minute")] = False,
    compiled: Annotated[bool, typer.Option("--compiled", help="also compiled networks; "
                                           "compiling takes minutes")] = False,
    size: Annotated[int, typer.Option(help="pixels; 32 or 64 are compared with 28")] = 28,
    out: Annotated[Path | None, OUT_OPTION] = None,
    as_json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Measure a training step, fused and as printed, in several ways, against what the machine
    could do; or how its speed changes with the size of images."""
    if size == 28:
        bench_step_command(device, quick, compiled, out, as_json)
        return
    with clear_errors():
        if size not in (32, 64) or compiled:
            raise RunError("--size is 28, 32 or 64, and goes without --compiled")
        check_place(out)
        facts = measure_sizes((28, size), rounds=2 if quick else 6,
                              device=choose_device(device))
        keep_record(facts, out)
    tell(json_text(facts) if as_json else sizes_table(facts))
