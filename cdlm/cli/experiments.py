"""Commands that measure stored runs, reproduce tables, and show them.

Generated from book/src/80_plan_and_queue.md, book/src/90_command_line.md by `make sync`: edit
there, not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path
from typing import Annotated

import typer

from cdlm.cli.common import (
    DEVICE_OPTION,
    JSON_OPTION,
    SKIP_OPTION,
    choose_device,
    clear_errors,
    leaving_out,
    tell,
    tell_error,
)
from cdlm.cli.train import note_unchecked
from cdlm.data.cache import cache_root
from cdlm.evaluation.selection import RULES
from cdlm.experiments.linemod import LINEMOD_ASKED, linemod_jobs, linemod_rows
from cdlm.experiments.plan import BUDGETS, FIGURE_TASKS, TABLE_TASKS, Job, jobs
from cdlm.experiments.protocols import protocol_jobs, reproduce_protocols
from cdlm.experiments.queue import by_cause, by_dask, by_processes, fitting_workers, reproduce
from cdlm.experiments.record import is_valid
from cdlm.experiments.results import result_rows
from cdlm.experiments.translation import (
    TRANSLATED,
    jobs_left,
    make_records,
    table4_cells,
    translation_jobs,
)
from cdlm.files import RunError, json_text, need_place, write_json
from cdlm.runs.record import record_path
from cdlm.settings import quoted

__all__ = [
    "MEASURED",
    "MOST_SEEDS",
    "PROTOCOLS_FOLDER",
    "TRANSLATIONS_FOLDER",
    "job_line",
    "make_protocols",
    "make_translations",
    "measure_command",
    "measurements",
    "on_record",
    "parse_seeds",
    "reproduce_any_command",
    "reproduce_command",
    "results_command",
    "summary",
]


# 80_plan_and_queue: The commands

MOST_SEEDS = 10_000


def parse_seeds(text: str) -> list[int]:
    """Seeds from "0-2", "7" or "0,3-5". Raises RunError for other forms, and for more than
    MOST_SEEDS."""
    found = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        ends = (first, last if dash else first)
        if not all(end.isdecimal() and len(end) < 20 for end in ends) or int(ends[1]) < int(
            first):
            raise RunError(f"seeds have the form 0-2 or 0,3,5; not {quoted(text)}")
        if int(ends[1]) - int(first) + len(found) >= MOST_SEEDS:
            raise RunError(f"{quoted(text)} are more than {MOST_SEEDS} seeds; name fewer")
        found += range(int(first), int(ends[1]) + 1)
    return list(dict.fromkeys(found))


def job_line(number: int, work: Job, results: Path) -> str:
    """One line of the list of jobs: its number, whether its record is there, and its name."""
    return (f"{number:4} "
            f"{'done' if is_valid(record_path(work.name, results), work.spec) else 'todo'} "
            f"{work.name}")


def summary(rows: list[dict]) -> str:
    """Rows of results as a table of text, one line for each cell."""
    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"
    lines = [f"{'table':12} {'task':17} {'method':29} {'recipe':9} {'paper':>6} {'ours':>6} "
             f"{'std':>6} seeds"]
    return "\n".join(lines + [f"{r['table']:12} {r['task']:17} {r['method']:29} "
                              f"{r['recipe']:9} {number(r['paper']):>6} "
                              f"{number(r['mean']):>6} {number(r['std']):>6} {len(r['seeds'])}"
                              for r in rows])


RUNS_FOLDER = Path("book/results/runs")
RESULTS_OPTION = typer.Option(help="folder of the records")
ASKED = (*TABLE_TASKS, *FIGURE_TASKS, *LINEMOD_ASKED)
WHAT_ARGUMENT = typer.Argument(help=f"one of: {', '.join(ASKED)}")
SEEDS_OPTION = typer.Option(help="such as 1-3, or 0,3,5")
PROFILE_OPTION = typer.Option(help=f"how much of it: {', '.join(BUDGETS)}")
RECORDS_OPTION = typer.Option(help=f"folder of the records; by default {RUNS_FOLDER}, "
                              "or beside the runs for a profile that is not full")
WORK_OPTION = typer.Option(help="folder for unfinished runs and for weights; "
                           "by default a cache")
WORKERS_OPTION = typer.Option(min=0, help="processes; 0 for one for each core, "
                              "or one on a GPU")
DASK_OPTION = typer.Option(help="address of a Dask cluster, or local")
LIST_OPTION = typer.Option("--list", help="only list the runs, numbered")
JOB_OPTION = typer.Option("--job", min=0, help="only the run with this number in the list")


def numbered(todo: Sequence[Job], number: int | None) -> list[Job]:
    """The job with a number, or all for None. Raises RunError for a number there is not."""
    if number is None:
        return list(todo)
    if number >= len(todo):
        raise RunError(f"there are {len(todo)} runs, numbered from 0; not {number}")
    return [todo[number]]


def make_runs(todo: Sequence[Job], results: Path, folders: Path, device: str, workers: int,
              dask: str) -> None:
    """Carry out jobs and tell each cause of failure in a line. Raises RunError if
    one failed."""
    workers = workers or fitting_workers(len(todo), device)
    failed = reproduce(todo, results, folders, device,
                       by_dask(dask, workers) if dask else by_processes(workers))
    for line in by_cause(failed):
        tell_error(line)
    if failed:
        raise RunError(
            f"{len(failed)} of {len(todo)} runs failed; the same command tries them again")


def reproduce_command(
    what: Annotated[str, WHAT_ARGUMENT],
    seeds: Annotated[str, SEEDS_OPTION] = "1-3",
    profile: Annotated[str, PROFILE_OPTION] = "full",
    results: Annotated[Path | None, RECORDS_OPTION] = None,
    work: Annotated[Path | None, WORK_OPTION] = None,
    workers: Annotated[int, WORKERS_OPTION] = 0,
    device: Annotated[str, DEVICE_OPTION] = "cpu",
    dask: Annotated[str, DASK_OPTION] = "",
    listed: Annotated[bool, LIST_OPTION] = False,
    number: Annotated[int | None, JOB_OPTION] = None,
) -> None:
    """Make the runs behind a table or a figure that are not on record yet; what was cut off is
    taken up again."""
    with clear_errors():
        folders = work or cache_root() / "runs" / profile
        results = results or (RUNS_FOLDER if profile == "full" else folders / "records")
        ask = linemod_jobs if what in LINEMOD_ASKED else jobs
        todo = ask(what, parse_seeds(seeds), profile)
        asked = numbered(todo, number)
        if listed:
            tell("\n".join(job_line(i, found, results) for i, found in enumerate(todo)))
            return
        make_runs(asked, results, folders, choose_device(device), workers, dask)
    tell(f"{len(asked)} runs are on record in {results}")


def results_command(
    results: Annotated[Path, RESULTS_OPTION] = RUNS_FOLDER,
    selection: Annotated[str, typer.Option(help=f"snapshot: last, {', '.join(RULES)}, "
                                           "or oracle, which is no rule")] = "last",
    as_json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Tell our numbers beside the paper's, cell by cell of its tables, translations last."""
    with clear_errors():
        if not results.is_dir():
            raise RunError(f"{results} is no folder; name that of the records by --results")
        rows = [*result_rows(results, selection), *linemod_rows(results, selection),
                *table4_cells(results.parent / "translations")]
    if not any(row["seeds"] for row in rows):
        tell(f"no record of a run in {results}", err=True)
    tell(json_text(rows) if as_json else summary(rows))


# 90_command_line: The commands

MEASURED = ("moments", "maps", "translations", "confusion", "trust", "poses", "visible")


def measurements() -> dict[str, Callable[[Iterable[Path]], dict]]:
    """How each of them is measured. Other commands do not wait for the libraries of these."""
    from cdlm.measurements.drawings import measure_translations
    from cdlm.measurements.maps import measure_confusion, measure_maps
    from cdlm.measurements.moments import measure_moments
    from cdlm.measurements.poses import measure_poses, measure_visible
    from cdlm.measurements.trust import measure_trust

    return {"moments": measure_moments, "maps": measure_maps,
            "translations": measure_translations, "confusion": measure_confusion,
            "trust": measure_trust, "poses": measure_poses, "visible": measure_visible}


def measure_command(
    what: Annotated[str, typer.Argument(help=f"one of: {', '.join(MEASURED)}")],
    folders: Annotated[list[Path],
                       typer.Argument(help="folders of runs that differ in their seed only")],
    out: Annotated[Path, typer.Option(help="JSON file to write, "
                                      "such as book/results/measurements/NAME.json")],
    skip_damaged: Annotated[bool, SKIP_OPTION] = False,
) -> None:
    """Measure stored runs in one of the ways that a chapter needs, and store the record."""
    with clear_errors(), leaving_out(skip_damaged):
        if what not in MEASURED:
            raise RunError(f"nothing is called {what!r} here; known: {', '.join(MEASURED)}")
        need_place(out, lambda old: old.get("measured") == what)
        found = measurements()[what](folders)
        need_place(out, lambda old: old.get("spec") == found.get("spec"))
        write_json(out, found)
        note_unchecked(folders)
    tell(f"{out}: {what} of {len(folders)} runs")


TRANSLATIONS_FOLDER = Path("book/results/translations")


def on_record(asked: Sequence, failed: Sequence[str], results: Path) -> str:
    """What to tell of runs that are all on record in ``results`` now. Raises RunError where
    some ``failed``, after a line for each cause."""
    for line in by_cause(failed):
        tell_error(line)
    if failed:
        raise RunError(f"{len(failed)} of {len(asked)} runs failed; "
                       "the same command tries them again")
    return f"{len(asked)} runs are on record in {results}"


def make_translations(what: str, seeds: str, profile: str, results: Path | None,
                      work: Path | None, listed: bool, number: int | None) -> str:
    """Make, or list, the records behind Table 4 or Figure 8; what to tell. Raises RunError if
    one failed, and for what there is not."""
    folders = work or cache_root() / "translations" / profile
    results = results or (TRANSLATIONS_FOLDER if profile == "full" else folders / "records")
    todo = translation_jobs(what, parse_seeds(seeds), profile)
    if number is not None and number >= len(todo):
        raise RunError(f"there are {len(todo)} runs, numbered from 0; not {number}")
    asked = todo if number is None else [todo[number]]
    if listed:
        left = jobs_left(todo, results)
        return "\n".join(f"{i:4} {'todo' if job in left else 'done'} {job.name}"
                         for i, job in enumerate(todo))
    return on_record(asked, make_records(asked, results, folders), results)


PROTOCOLS_FOLDER = Path("book/results/protocols")


def make_protocols(seeds: str, profile: str, results: Path | None, work: Path | None,
                   listed: bool, number: int | None) -> str:
    """Make, or list, runs of the neighbors under other protocols; what to tell. Raises
    RunError if one failed, and for what there is not."""
    folders = work or cache_root() / "protocols" / profile
    results = results or (PROTOCOLS_FOLDER if profile == "full" else folders / "records")
    todo = protocol_jobs(parse_seeds(seeds), profile)
    if number is not None and number >= len(todo):
        raise RunError(f"there are {len(todo)} runs, numbered from 0; not {number}")
    if listed:
        return "\n".join(job_line(i, job, results) for i, job in enumerate(todo))
    asked = todo if number is None else [todo[number]]
    return on_record(asked, reproduce_protocols(asked, results, folders), results)


@wraps(reproduce_command)
def reproduce_any_command(**asked: object) -> None:
    """Make the runs behind a table or a figure that are not on record yet; what was cut off is
    taken up again. table4 and fig8 are translations, and protocols are runs of the neighbors
    with other images, both made one after the other on the CPU."""
    what = asked["what"]
    if what not in (*TRANSLATED, "protocols"):
        reproduce_command(**asked)
        return
    with clear_errors():
        if asked["dask"] or asked["workers"] > 1 or asked["device"] not in ("cpu", "auto"):
            raise RunError(
                f"{'translations' if what in TRANSLATED else what} are made one after the "
                "other on the CPU; leave out --dask, --workers and --device")
        more = {name: asked[name] for name in ("seeds", "profile", "results", "work", "listed",
                                               "number")}
        said = (make_translations(what, **more) if what in TRANSLATED
                else make_protocols(**more))
    tell(said)
