"""The command line; it calls what the chapters define.

Generated from book/src/73_fast.md, book/src/91_command_line.md, book/src/94_reproduce.md by
`make sync`: edit there, not here.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import torch
import typer
from platformdirs import user_cache_path
from tqdm import tqdm

from cdlm.bench import bench_data
from cdlm.checkpoints import CheckpointError
from cdlm.data.archives import DataError
from cdlm.data.augment import Augment
from cdlm.data.catalog import (
    SIZES,
    domain_info,
    find_recipe,
    locate_all,
    open_domain,
    overview,
)
from cdlm.data.domains import DOMAIN_NAMES, MissingDataError, UnknownDomainError, load_domain
from cdlm.inside import measure_confusion, measure_maps, measure_translations
from cdlm.methods.registry import METHODS
from cdlm.plan import FIGURE_TASKS, TABLE_TASKS, Job, jobs
from cdlm.profile import PROFILES
from cdlm.reproduce import (
    by_cause,
    by_dask,
    by_processes,
    fitting_workers,
    is_valid,
    reproduce,
)
from cdlm.results import result_rows
from cdlm.runs import (
    RunError,
    RunSpec,
    evaluate,
    joined_record,
    measure_moments,
    processor,
    provenance,
    read_json,
    record_path,
    run,
    write_json,
)
from cdlm.selection import RULES
from cdlm.shift import SHIFT_PAIRS, measure_shift
from cdlm.speed import load_of_machine, measure_race, measure_step, race_line, step_table
from cdlm.theory.ledger import LedgerError, rows
from cdlm.training import Interrupted, TrainingError

__all__ = [
    "AUGMENT_OPTION",
    "BENCH_COMMANDS",
    "CHANGES",
    "EVERY_OPTION",
    "EXPERIMENT_COMMANDS",
    "FOLDER_OPTION",
    "JSON_OPTION",
    "MEASUREMENTS",
    "OUT_OPTION",
    "RESULTS_OPTION",
    "RUNS_FOLDER",
    "SETTING_OPTION",
    "STRONG_OPTION",
    "accuracies",
    "app",
    "bench_accuracy_command",
    "bench_app",
    "bench_data_command",
    "bench_group",
    "bench_step_command",
    "book_builder",
    "choose_device",
    "clear_errors",
    "data_app",
    "data_fetch_command",
    "data_info_command",
    "data_list_command",
    "data_shift_command",
    "doctor_command",
    "evaluate_command",
    "job_line",
    "keep_record",
    "ledger_command",
    "main",
    "measure_command",
    "parse_seeds",
    "parse_settings",
    "record_command",
    "reproduce_command",
    "results_command",
    "run_with_bar",
    "summary",
    "tell_error",
    "train_command",
]


# 73_fast: All of it in one command

OUT_OPTION = typer.Option(help="also write the record to this JSON file")


def keep_record(facts: dict, out: Path | None) -> None:
    """Write a record if a file was named, in a folder that is made if it is missing."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, facts)


def bench_step_command(
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps")] = "cpu",
    quick: Annotated[bool, typer.Option("--quick", help="fewer ways and sizes, less than a minute")] = False,
    compiled: Annotated[bool, typer.Option("--compiled", help="also compiled networks; compiling takes minutes")] = False,
    out: Annotated[Path | None, OUT_OPTION] = None, as_json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Measure a training step, fused and as printed, in several ways, against what the machine could do."""
    with clear_errors():
        facts = measure_step(choose_device(device), quick, compiled)
        keep_record(facts, out)
    typer.echo(json.dumps(facts) if as_json else step_table(facts))


def bench_accuracy_command(
    source: Annotated[str, typer.Argument(help="labeled domain")] = "mnist",
    target: Annotated[str, typer.Argument(help="unlabeled domain; by default usps where its images are, else optdigits")] = "",
    threshold: Annotated[float, typer.Option(min=0.0, max=1.0, help="target accuracy at which the clock stops")] = 0.75,
    steps: Annotated[int, typer.Option(min=1, help="end of the race")] = 1500,
    batch_size: Annotated[int, typer.Option(min=2)] = 64, seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[Path | None, OUT_OPTION] = None, as_json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Measure the seconds to a stated target accuracy, ours and DANN of skada and pytorch-adapt. A stopwatch, not a result."""
    with clear_errors():
        target = target or ("usps" if locate_all(find_recipe("usps"))[0] == "full" else "optdigits")
        domains, load = (open_domain(source), open_domain(target)), load_of_machine()
        if domains[0].channels != domains[1].channels or domains[0].channels != 1:
            raise RunError("the race is between gray domains, such as mnist, optdigits and usps")
        rows = measure_race(*domains, threshold, steps, batch_size, seed)
        facts = {"measured": "seconds to accuracy", "source": source, "target": target, "threshold": threshold, "steps": steps,
                 "batch_size": batch_size, "seed": seed, "data": [domain.found for domain in domains],
                 "racers": rows, "provenance": provenance("cpu"),
                 "load": [round(load, 2), round(load_of_machine(), 2)]}
        keep_record(facts, out)
    lines = [f"{source} to {target}, until target accuracy {threshold} or {steps} steps (labels stop the clock, nothing else)"]
    typer.echo(json.dumps(facts) if as_json else "\n".join(lines + [f"  {name:20} {race_line(row)}" for name, row in rows.items()]))


# 91_command_line: Errors in one line

def tell_error(message: object) -> None:
    """One line on stderr; of several processes that torchrun has started, which all meet the same, the first one tells."""
    if os.environ.get("RANK", "0") == "0":
        typer.echo(f"error: {message}", err=True)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Errors that have an explanation become one line on stderr and exit status 1; an interrupt, 130."""
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except (RunError, TrainingError, CheckpointError, UnknownDomainError, MissingDataError, DataError,
            LedgerError, OSError) as error:
        tell_error(error)
        raise typer.Exit(1) from None
    except Interrupted as error:
        tell_error(error)
        raise typer.Exit(130) from None
    except KeyboardInterrupt:
        tell_error("interrupted; nothing was written")
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, previous)


# 91_command_line: The commands

app = typer.Typer(help="Cross-domain latent modulation: train models, evaluate them again, record results.",
                  no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  context_settings={"help_option_names": ["-h", "--help"]})


def choose_device(name: str) -> str:
    """``name`` itself if torch can use it, or for "auto" the best there is. Raises RunError if it cannot."""
    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return next(device for device, there in usable.items() if there)
    if not usable.get(name.split(":")[0], False):
        there = ", ".join(device for device, is_there in usable.items() if is_there)
        raise RunError(f"device {name!r} cannot be used here; there is: {there}")
    return name


def parse_settings(words: list[str]) -> dict[str, object]:
    """["gamma1=0.5", "reduction=mean"] as {"gamma1": 0.5, "reduction": "mean"}. Raises RunError for other forms."""
    settings = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise RunError(f"a setting has the form name=value, not {word!r}")
        try:
            settings[name] = json.loads(text)
        except ValueError:
            settings[name] = text
    return settings


CHANGES = [change.name for change in fields(Augment)]
SETTING_OPTION = typer.Option("--set", help="such as gamma1=0.5; repeatable")
AUGMENT_OPTION = typer.Option(help=f"random change to all images, such as degrees=10; repeatable; {', '.join(CHANGES)}")
STRONG_OPTION = typer.Option(help="the same for target images that come a second time, for training on own predictions")
EVERY_OPTION = typer.Option(min=0, help="steps from one checkpoint to the next; 0 keeps none, and the run cannot be resumed")


@app.command("train")
def train_command(
    source: Annotated[str, typer.Argument(help="labeled domain, such as mnist, or a folder with a folder for each class")],
    target: Annotated[str, typer.Argument(help="unlabeled domain, such as usps, or a folder of images")],
    out: Annotated[Path, typer.Option(help="new folder for config, metrics and weights")],
    method: Annotated[str, typer.Option(help=f"one of: {', '.join(METHODS)}")] = "cdlm",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    steps: Annotated[int, typer.Option(min=1, help="fixed number of updates; the last weights are kept")] = 1500,
    batch_size: Annotated[int, typer.Option(min=2, help="images of each domain in a step, over all processes")] = 64,
    setting: Annotated[list[str] | None, SETTING_OPTION] = None,
    augment: Annotated[list[str] | None, AUGMENT_OPTION] = None,
    strong: Annotated[list[str] | None, STRONG_OPTION] = None,
    size: Annotated[str, typer.Option(help=f"how much of the data: {', '.join(SIZES)}, or one for each, as sample,full")] = "best",
    precision: Annotated[str, typer.Option(help="float32, or bfloat16 where that is fast")] = "float32",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps")] = "auto",
    channels_last: Annotated[bool, typer.Option("--channels-last", help="another order of memory, faster on some GPUs")] = False,
    compile: Annotated[bool, typer.Option("--compile/--no-compile", help="compile the networks; needs a C++ compiler")] = False,
    log_every: Annotated[int, typer.Option(min=1, help="steps from one row of the log to the next")] = 50,
    checkpoint_every: Annotated[int, EVERY_OPTION] = 500,
) -> None:
    """Train a method from a labeled source to an unlabeled target, and store the run; a killed one is resumed."""
    how = {"log_every": log_every, "checkpoint_every": checkpoint_every, "channels_last": channels_last, "compile": compile}
    with clear_errors():
        settings, augment, strong = (parse_settings(words or []) for words in (setting, augment, strong))
        spec = RunSpec(method, source, target, seed, steps, batch_size, settings, size, precision, augment, strong)
        run_with_bar(spec, out, choose_device(device), how)


def run_with_bar(spec: RunSpec, out: Path, device: str, how: dict[str, int | bool]) -> None:
    """Run, with a progress bar where somebody looks at it, and tell what came out."""
    with tqdm(total=spec.steps, unit="step", disable=None if os.environ.get("RANK", "0") == "0" else True) as bar:
        def report(row: dict) -> None:
            bar.update(row["step"] - bar.n)
            bar.set_postfix({name: f"{value:.3g}" for name, value in row.items() if name != "step"})
        metrics = run(spec, out, device, report, **how)
    if metrics:
        typer.echo(f"{accuracies(metrics)}, last of {spec.steps} steps, {metrics['seconds']:.0f} s: {out}")


def accuracies(metrics: dict) -> str:
    """What to say of accuracies; a target that is a folder without classes has none."""
    target = f"{metrics['target_accuracy']:.4f}" if "target_accuracy" in metrics else "unknown, for want of labels"
    return f"target accuracy {target} (source {metrics['source_accuracy']:.4f})"


@app.command("evaluate")
def evaluate_command(
    folder: Annotated[Path, typer.Argument(help="folder of a run")],
    as_json: Annotated[bool, typer.Option("--json", help="print a JSON object")] = False,
) -> None:
    """Measure a stored run again: the same number, or the reason why not."""
    with clear_errors():
        metrics = evaluate(folder)
    typer.echo(json.dumps(metrics) if as_json else accuracies(metrics))


@app.command("record")
def record_command(
    path: Annotated[Path, typer.Argument(help="JSON file to write, such as book/results/NAME.json")],
    folders: Annotated[list[Path], typer.Argument(help="folders of runs that differ in their seed only")],
) -> None:
    """Join runs of several seeds into a record that chapters can read."""
    with clear_errors():
        write_json(path, joined_record(folders))
    typer.echo(f"{path}: {len(folders)} runs")


MEASUREMENTS = {"moments": measure_moments, "maps": measure_maps, "translations": measure_translations,
                "confusion": measure_confusion}


@app.command("measure")
def measure_command(
    what: Annotated[str, typer.Argument(help=f"one of: {', '.join(MEASUREMENTS)}")],
    folders: Annotated[list[Path], typer.Argument(help="folders of runs that differ in their seed only")],
    out: Annotated[Path, typer.Option(help="JSON file to write, such as book/results/measurements/NAME.json")],
) -> None:
    """Measure stored runs in one of the ways that a chapter needs, and store the record."""
    with clear_errors():
        if what not in MEASUREMENTS:
            raise RunError(f"nothing is called {what!r} here; known: {', '.join(MEASUREMENTS)}")
        found = MEASUREMENTS[what](folders)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, found)
    typer.echo(f"{out}: {what} of {len(folders)} runs")


def book_builder() -> str:
    """The version of Jupyter Book, and what to do if it cannot build this book."""
    try:
        found = version("jupyter-book")
    except PackageNotFoundError:
        return "none; `make book` installs it"
    if found.startswith("1."):
        return found
    return f"{found}, which cannot build this book: pip install -r book/requirements.txt"


@app.command("doctor")
def doctor_command(as_json: Annotated[bool, typer.Option("--json", help="print a JSON object")] = False) -> None:
    """Tell versions, devices, and which data sets are found where."""
    found = {}
    for name in DOMAIN_NAMES:
        try:
            domain = load_domain(name)
            found[name] = f"{len(domain.train)} + {len(domain.test)} images, from {domain.origin}"
        except MissingDataError as error:
            found[name] = f"missing: {error}"
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    devices = {"cpu": processor(), "cuda": ", ".join(cuda) or "none", "mps": str(torch.backends.mps.is_available())}
    facts = {"versions": provenance("cpu"), "devices": devices, "data": found,
             "jupyter-book": book_builder()}
    if as_json:
        typer.echo(json.dumps(facts))
        return
    versions = {"python": facts["versions"]["python"], **facts["versions"]["packages"],
                "jupyter-book": facts["jupyter-book"]}
    for heading, group in (("versions", versions), ("devices", devices), ("data", found)):
        typer.echo(heading)
        for name, text in group.items():
            typer.echo(f"  {name:14} {text}")


data_app = typer.Typer(help="Which data sets there are, what of them is here, and getting the rest.", no_args_is_help=True)
bench_app = typer.Typer(no_args_is_help=True)
FOLDER_OPTION = typer.Option(help="folder to look in first")
JSON_OPTION = typer.Option("--json", help="print JSON")


@data_app.command("list")
def data_list_command(root: Annotated[Path | None, FOLDER_OPTION] = None,
                      as_json: Annotated[bool, JSON_OPTION] = False) -> None:
    """Tell of each domain how much of it is on this machine, and by which way."""
    with clear_errors():
        rows = overview(root)
    if as_json:
        typer.echo(json.dumps(rows))
        return
    typer.echo(f"{'domain':12} {'here':8} {'by':24} {'images':>17}   {'whole set':>15}   license")
    for row in rows:
        counts = ((row["train"], row["test"]), row["whole"])
        here, whole = ("as the folder has" if train is None else f"{train} + {test}" for train, test in counts)
        typer.echo(f"{row['name']:12} {row['here']:8} {row['way']:24} {here:>17}   {whole:>15}   {row['license']}")


@data_app.command("info")
def data_info_command(name: Annotated[str, typer.Argument(help="domain, such as mnistm")],
                      root: Annotated[Path | None, FOLDER_OPTION] = None,
                      as_json: Annotated[bool, JSON_OPTION] = False) -> None:
    """Tell all that is known of a domain: classes, sizes, origin, license, and how to get it."""
    with clear_errors():
        facts = domain_info(name, root)
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for key, value in facts.items():
        for item in value if key == "otherwise" else [value]:
            typer.echo(f"{key:10} {', '.join(map(str, item)) if isinstance(item, (list, dict)) else item}")


@data_app.command("fetch")
def data_fetch_command(
    name: Annotated[str, typer.Argument(help="domain, such as mnist, or a folder of images")],
    root: Annotated[Path | None, FOLDER_OPTION] = None,
    offline: Annotated[bool, typer.Option("--offline", help="download nothing")] = False,
    setting: Annotated[list[str] | None, typer.Option("--set", help="such as background=noise; repeatable")] = None,
) -> None:
    """Get the whole of a domain, download what is missing, make what is made, and keep it."""
    with clear_errors():
        domain = open_domain(name, "full", root, not offline, **parse_settings(setting or []))
    typer.echo(f"{name}: {domain.found}")
    for message in domain.skipped:
        typer.echo(f"left out: {message}", err=True)


@data_app.command("shift")
def data_shift_command(
    out: Annotated[Path, typer.Option(help="JSON file to write, such as book/results/measurements/domain_shift.json")],
    pairs: Annotated[list[str] | None, typer.Argument(help="such as mnist-usps; by default all that the chapter shows")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="draws of images")] = 3,
    size: Annotated[str, typer.Option(help="full, best or sample")] = "full",
    root: Annotated[Path | None, FOLDER_OPTION] = None,
) -> None:
    """Measure how far domains are apart on their pixels, for the record that the chapter on domains reads.

    Pairs that are not measured stay in the file as they are.
    """
    with clear_errors():
        known = {"-".join(pair): pair for pair in SHIFT_PAIRS}
        if unknown := [pair for pair in pairs or () if pair not in known]:
            raise RunError(f"unknown pair {unknown[0]!r}; known: {', '.join(known)}")
        out.parent.mkdir(parents=True, exist_ok=True)
        earlier = read_json(out) if out.exists() else None
        found = measure_shift([known[pair] for pair in pairs or known], range(seeds), size, root, earlier)
        write_json(out, found)
    typer.echo(f"{out}: {len(pairs or known)} pairs, {seeds} draws of each; "
               f"{len(found['pairs'])} in the record")


@bench_app.callback()
def bench_group() -> None:
    """What things cost on this machine."""


@bench_app.command("data")
def bench_data_command(device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps")] = "cpu",
                       as_json: Annotated[bool, JSON_OPTION] = False) -> None:
    """Measure images per second, beside torchvision's DataLoader and a training step, in one run."""
    with clear_errors():
        facts = bench_data(choose_device(device))
    typer.echo(json.dumps(facts) if as_json else
               f"{facts['images_per_s']} images/s, {facts['over_dataloader']} times a DataLoader "
               f"({facts['dataloader_images_per_s']}), {facts['fraction_of_step']:.2%} of a training step; {facts['device']}")


@app.command("ledger")
def ledger_command(as_json: Annotated[bool, typer.Option("--json", help="print a list of JSON objects")] = False) -> None:
    """Tell of each equation of the paper whether it is verified; exit status 1 if one is not."""
    with clear_errors():
        found = rows()
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in found]))
    else:
        for row in found:
            state = row.verdict if row.verified else f"NOT VERIFIED: {row.why}"
            typer.echo(f"{row.equation:3}  {row.title:64} {state}")
    if not all(row.verified for row in found):
        raise typer.Exit(1)


def main() -> None:
    """Entry point of the command ``cdlm``."""
    app.add_typer(data_app, name="data")
    app.add_typer(bench_app, name="bench")
    app()


BENCH_COMMANDS = [bench_app.command("step")(bench_step_command), bench_app.command("accuracy")(bench_accuracy_command)]


# 94_reproduce: The commands

def parse_seeds(text: str) -> list[int]:
    """Seeds from "0-2", "7" or "0,3-5". Raises RunError for other forms."""
    found = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise RunError(f"seeds have the form 0-2 or 0,3,5; not {text!r}")
        found += range(int(first), int(last or first) + 1)
    return list(dict.fromkeys(found))


def job_line(number: int, work: Job, results: Path) -> str:
    """One line of the list of jobs: its number, whether its record is there, and its name."""
    return f"{number:4} {'done' if is_valid(record_path(work.name, results), work.spec) else 'todo'} {work.name}"


def summary(rows: list[dict]) -> str:
    """Rows of results as a table of text, one line for each cell."""
    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"
    lines = [f"{'table':12} {'task':17} {'method':29} {'recipe':9} {'paper':>6} {'ours':>6} {'std':>6} seeds"]
    return "\n".join(lines + [f"{r['table']:12} {r['task']:17} {r['method']:29} {r['recipe']:9} {number(r['paper']):>6} "
                              f"{number(r['mean']):>6} {number(r['std']):>6} {len(r['seeds'])}" for r in rows])


RESULTS_OPTION = typer.Option(help="folder of the records")
RUNS_FOLDER = Path("book/results/runs")


def reproduce_command(
    what: Annotated[str, typer.Argument(help=f"one of: {', '.join((*TABLE_TASKS, *FIGURE_TASKS))}")],
    seeds: Annotated[str, typer.Option(help="such as 1-3, or 0,3,5")] = "1-3",
    profile: Annotated[str, typer.Option(help=f"how much of it: {', '.join(PROFILES)}")] = "full",
    results: Annotated[Path | None, typer.Option(help=f"folder of the records; by default {RUNS_FOLDER}, or beside the "
                                                      "runs for a profile that is not full")] = None,
    work: Annotated[Path | None, typer.Option(help="folder for unfinished runs and for weights; by default a cache")] = None,
    workers: Annotated[int, typer.Option(min=0, help="processes; 0 for one for each core, or one on a GPU")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps")] = "cpu",
    dask: Annotated[str, typer.Option(help="address of a Dask cluster, or local")] = "",
    listed: Annotated[bool, typer.Option("--list", help="only list the runs, numbered")] = False,
    number: Annotated[int | None, typer.Option("--job", min=0, help="only the run with this number in the list")] = None,
) -> None:
    """Make the runs behind a table or a figure that are not on record yet; what was cut off is taken up again."""
    with clear_errors():
        todo, folders = jobs(what, parse_seeds(seeds), profile), work or user_cache_path("cdlm") / "runs" / profile
        results = results or (RUNS_FOLDER if profile == "full" else folders / "records")
        if number is not None and number >= len(todo):
            raise RunError(f"there are {len(todo)} runs, numbered from 0; not {number}")
        if listed:
            typer.echo("\n".join(job_line(i, found, results) for i, found in enumerate(todo)))
            return
        todo, device = todo if number is None else [todo[number]], choose_device(device)
        workers = workers or fitting_workers(len(todo), device)
        failed = reproduce(todo, results, folders, device, by_dask(dask, workers) if dask else by_processes(workers))
        for line in by_cause(failed):
            tell_error(line)
        if failed:
            raise RunError(f"{len(failed)} of {len(todo)} runs failed; the same command tries them again")
    typer.echo(f"{len(todo)} runs are on record in {results}")


def results_command(
    results: Annotated[Path, RESULTS_OPTION] = RUNS_FOLDER,
    selection: Annotated[str, typer.Option(help=f"snapshot: last, {', '.join(RULES)}, or oracle, which is no rule")] = "last",
    as_json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Tell our numbers beside the paper's, cell by cell of its tables."""
    with clear_errors():
        rows = result_rows(results, selection)
    if not any(row["seeds"] for row in rows):
        typer.echo(f"no record of a run in {results}", err=True)
    typer.echo(json.dumps(rows) if as_json else summary(rows))


EXPERIMENT_COMMANDS = [app.command("reproduce")(reproduce_command), app.command("results")(results_command)]
