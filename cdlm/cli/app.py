"""The program `cdlm`: all commands, and where it begins.

Generated from book/src/90_command_line.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import torch
import typer

from cdlm.cli.bench import bench_accuracy_command, bench_any_step_command, bench_data_command
from cdlm.cli.common import clear_errors, tell
from cdlm.cli.data import (
    data_fetch_command,
    data_info_command,
    data_list_command,
    data_shift_command,
)
from cdlm.cli.experiments import measure_command, reproduce_any_command, results_command
from cdlm.cli.export import export_command
from cdlm.cli.predict import bench_predict_command, predict_command, translate_command
from cdlm.cli.report import report_command
from cdlm.cli.train import evaluate_command, record_command, train_command
from cdlm.data.domain import MissingDataError
from cdlm.domains.samples import DOMAIN_NAMES, load_domain
from cdlm.files import json_text
from cdlm.provenance import processor, provenance
from cdlm.theory.ledger import rows

__all__ = ["REGISTERED", "app", "bench_app", "data_app", "main"]


# 90_command_line: The commands

def book_builder() -> str:
    """The version of Jupyter Book, and what to do if it cannot build this book."""
    try:
        found = version("jupyter-book")
    except PackageNotFoundError:
        return "none; `make book` installs it"
    if found.startswith("1."):
        return found
    return f"{found}, which cannot build this book: pip install -r book/requirements.txt"


def doctor_command(
    as_json: Annotated[bool, typer.Option("--json", help="print a JSON object")] = False
) -> None:
    """Tell versions, devices, and which data sets are found where."""
    found = {}
    for name in DOMAIN_NAMES:
        try:
            domain = load_domain(name)
            found[name] = (
                f"{len(domain.train)} + {len(domain.test)} images, from {domain.origin}")
        except MissingDataError as error:
            found[name] = f"missing: {error}"
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    devices = {"cpu": processor(), "cuda": ", ".join(cuda) or "none",
               "mps": str(torch.backends.mps.is_available())}
    facts = {"versions": provenance("cpu"), "devices": devices, "data": found,
             "jupyter-book": book_builder()}
    if as_json:
        tell(json_text(facts))
        return
    versions = {"python": facts["versions"]["python"], **facts["versions"]["packages"],
                "jupyter-book": facts["jupyter-book"]}
    for heading, group in (("versions", versions), ("devices", devices), ("data", found)):
        tell(heading)
        for name, text in group.items():
            tell(f"  {name:14} {text}")


def ledger_command(as_json: Annotated[bool, typer.Option("--json", help="print a list of JSON "
                                                         "objects")] = False) -> None:
    """Tell of each equation of the paper whether it is verified; exit status 1 if one is not.
    """
    with clear_errors():
        found = rows()
    if as_json:
        tell(json_text([asdict(row) for row in found]))
    else:
        for row in found:
            state = row.verdict if row.verified else f"NOT VERIFIED: {row.why}"
            tell(f"{row.equation:3}  {row.title:64} {state}")
    if not all(row.verified for row in found):
        raise typer.Exit(1)


app = typer.Typer(
    help="Cross-domain latent modulation: train models, evaluate them again, record results.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]})
data_app = typer.Typer(help="Which data sets there are, what of them is here, "
                       "and getting the rest.", no_args_is_help=True)
bench_app = typer.Typer(help="What things cost on this machine.", no_args_is_help=True)


COMMANDS = {
    "train": train_command,
    "evaluate": evaluate_command,
    "record": record_command,
    "measure": measure_command,
    "predict": predict_command,
    "translate": translate_command,
    "export": export_command,
    "doctor": doctor_command,
    "ledger": ledger_command,
    "reproduce": reproduce_any_command,
    "results": results_command,
    "report": report_command,
}


DATA_COMMANDS = {
    "list": data_list_command,
    "info": data_info_command,
    "fetch": data_fetch_command,
    "shift": data_shift_command,
}
BENCH_COMMANDS = {
    "data": bench_data_command,
    "step": bench_any_step_command,
    "accuracy": bench_accuracy_command,
    "predict": bench_predict_command,
}


REGISTERED = [group.command(name)(command) for group, commands in (
    (app, COMMANDS), (data_app, DATA_COMMANDS), (bench_app, BENCH_COMMANDS))
              for name, command in commands.items()]


def main() -> None:
    """Entry point of the command ``cdlm``."""
    app.add_typer(data_app, name="data")
    app.add_typer(bench_app, name="bench")
    app()
