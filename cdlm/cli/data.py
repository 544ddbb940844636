"""Commands about domains and their files.

Generated from book/src/90_command_line.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cdlm.cli.common import (
    JSON_OPTION,
    SKIP_OPTION,
    clear_errors,
    leaving_out,
    parse_settings,
    tell,
)
from cdlm.domains.catalog import check_options, domain_info, open_domain, options_of, overview
from cdlm.files import RunError, json_text, need_place, read_json, write_json
from cdlm.shapes import Shifts

__all__ = [
    "data_fetch_command",
    "data_info_command",
    "data_list_command",
    "data_shift_command",
]


# 90_command_line: The commands

FOLDER_OPTION = typer.Option(help="folder to look in first")


def data_list_command(root: Annotated[Path | None, FOLDER_OPTION] = None,
                      as_json: Annotated[bool, JSON_OPTION] = False) -> None:
    """Tell of each domain how much of it is on this machine, and by which way."""
    with clear_errors():
        rows = overview(root)
    if as_json:
        tell(json_text(rows))
        return
    tell(f"{'domain':12} {'here':8} {'by':24} {'images':>17}   {'whole set':>15}   license")
    for row in rows:
        counts = ((row["train"], row["test"]), row["whole"])
        here, whole = ("as the folder has" if train is None else f"{train} + {test}"
                       for train, test in counts)
        tell(f"{row['name']:12} {row['here']:8} {row['way']:24} {here:>17}   "
             f"{whole:>15}   {row['license']}")


def data_info_command(name: Annotated[str, typer.Argument(help="domain, such as mnistm")],
                      root: Annotated[Path | None, FOLDER_OPTION] = None,
                      as_json: Annotated[bool, JSON_OPTION] = False) -> None:
    """Tell all that is known of a domain: classes, sizes, origin, license, and how to get it.
    """
    with clear_errors():
        facts = domain_info(name, root)
    if as_json:
        tell(json_text(facts))
        return
    for key, value in facts.items():
        for item in value if key == "otherwise" else [value]:
            tell(f"{key:10} "
                 f"{', '.join(map(str, item)) if isinstance(item, (list, dict)) else item}")


def data_fetch_command(
    name: Annotated[str, typer.Argument(help="domain, such as mnist, or a folder of images")],
    root: Annotated[Path | None, FOLDER_OPTION] = None,
    offline: Annotated[bool, typer.Option("--offline", help="download nothing")] = False,
    setting: Annotated[list[str] | None, typer.Option("--set", help="such as "
                                                      "background=noise; repeatable")] = None,
    skip_damaged: Annotated[bool, SKIP_OPTION] = False,
) -> None:
    """Get the whole of a domain, download what is missing, make what is made, and keep it."""
    with clear_errors(), leaving_out(skip_damaged):
        options = parse_settings(setting)
        check_options(name, options_of(name), options)
        domain = open_domain(name, "full", root, not offline, **options)
    tell(f"{name}: {domain.found}")
    for message in domain.skipped:
        tell(f"left out: {message}", err=True)


def data_shift_command(
    out: Annotated[Path, typer.Option(help="JSON file to write, "
                                      "such as book/results/measurements/domain_shift.json")],
    pairs: Annotated[list[str] | None, typer.Argument(help="such as mnist-usps; by default "
                                                      "all that the chapter shows")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="draws of images")] = 3,
    size: Annotated[str, typer.Option(help="full, best or sample")] = "full",
    root: Annotated[Path | None, FOLDER_OPTION] = None,
) -> None:
    """Measure how far domains are apart on their pixels, for the record that the chapter on
    domains reads.

    Pairs that are not measured stay in the file as they are.
    """
    from cdlm.measurements.shift import SHIFT_PAIRS, measure_shift  # likewise

    with clear_errors():
        known = {"-".join(pair): pair for pair in SHIFT_PAIRS}
        if unknown := [pair for pair in pairs or () if pair not in known]:
            raise RunError(f"unknown pair {unknown[0]!r}; known: {', '.join(known)}")
        need_place(out, lambda old: {"pairs", "found", "data"} <= old.keys())
        earlier = read_json(out, Shifts) if out.exists() else None
        found = measure_shift([known[pair] for pair in pairs or known], range(seeds), size,
                              root, earlier)
        write_json(out, found)
    tell(f"{out}: {len(pairs or known)} pairs, {seeds} draws of each; "
         f"{len(found['pairs'])} in the record")
