"""What all commands share: errors in one line, devices, settings.

Generated from book/src/90_command_line.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import typer

from cdlm.data.archives import DataError, DataNote, printable
from cdlm.data.domain import MissingDataError, UnknownDomainError
from cdlm.data.search import NotFoundError
from cdlm.files import RunError, parse_json
from cdlm.settings import quoted
from cdlm.theory.ledger import LedgerError
from cdlm.training.checkpoints import CheckpointError
from cdlm.training.watch import Interrupted, TrainingError

__all__ = [
    "DEVICE_OPTION",
    "JSON_OPTION",
    "SEED_OPTION",
    "SKIP_OPTION",
    "choose_device",
    "clear_errors",
    "is_first",
    "leaving_out",
    "notes_in_lines",
    "parse_settings",
    "tell",
    "tell_error",
]


# 90_command_line: Errors in one line

def tell(text: str, err: bool = False) -> None:
    """Print lines; what no terminal should get, as a name of a file may hold it, is escaped.

    That nobody reads on, as in `cdlm data list | head -1`, is no error: the work is done.
    """
    try:
        typer.echo("\n".join(map(printable, text.split("\n"))), err=err)
    except BrokenPipeError:
        stream = sys.stderr if err else sys.stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def is_first() -> bool:
    """Whether this is the first of the processes that torchrun has started, or the only one.
    """
    return os.environ.get("RANK", "0") == "0"


def tell_error(message: object) -> None:
    """One line on stderr, or several where ways are listed; of several processes that torchrun
    has started, which all meet the same, the first one tells."""
    if is_first():
        listing = isinstance(message, NotFoundError)
        tell(f"error: {message if listing else str(message).replace(chr(10), ' ')}", err=True)


@contextmanager
def notes_in_lines() -> Iterator[None]:
    """What is to be said of data, on stderr, a line each."""
    with warnings.catch_warnings():
        others = warnings.showwarning
        def show(message: Warning, category: type[Warning], *where: object) -> None:
            if not issubclass(category, DataNote):
                others(message, category, *where)
            elif is_first():
                tell(f"note: {message}", err=True)
        warnings.showwarning = show
        yield


@contextmanager
def clear_errors() -> Iterator[None]:
    """Errors that have an explanation become one line on stderr and exit status 1; an
    interrupt, 130."""
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt
    previous = {number: signal.signal(number, interrupt)
                for number in (signal.SIGINT, signal.SIGTERM)
                if signal.getsignal(number) is not signal.SIG_IGN}
    try:
        with notes_in_lines():
            yield
    except (RunError, TrainingError, CheckpointError, UnknownDomainError, MissingDataError,
            DataError, LedgerError, OSError) as error:
        tell_error(error)
        raise typer.Exit(1) from None
    except Interrupted as error:
        tell_error(error)
        raise typer.Exit(130) from None
    except KeyboardInterrupt:
        tell_error("interrupted; nothing was written")
        raise typer.Exit(130) from None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


# 90_command_line: The commands

DEVICE_OPTION = typer.Option(help="auto, cpu, cuda or mps")
SEED_OPTION = typer.Option(min=0, max=2**63 - 1)
JSON_OPTION = typer.Option("--json", help="print JSON")


SKIP_OPTION = typer.Option("--skip-damaged", help="leave out damaged images of a folder, and "
                           "count them")


@contextmanager
def leaving_out(damaged: bool) -> Iterator[None]:
    """Leave out damaged images of folders within the block, if ``damaged``: what
    CDLM_SKIP_DAMAGED says to all that read them."""
    before = os.environ.get("CDLM_SKIP_DAMAGED")
    if damaged:
        os.environ["CDLM_SKIP_DAMAGED"] = "1"
    try:
        yield
    finally:
        if damaged:
            os.environ["CDLM_SKIP_DAMAGED"] = before or ""


def choose_device(name: str) -> str:
    """``name`` itself if torch can use it, or for "auto" the best there is.

    Raises RunError if it cannot.
    """
    counts = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()),
              "cpu": 1}
    usable = {device: count for device, count in counts.items() if count}
    if name == "auto":
        return next(iter(usable))
    kind, colon, number = name.partition(":")
    known = [str(i) for i in range(usable.get(kind, 0))]
    if not known or (colon and number not in known):
        raise RunError(f"device {quoted(name)} cannot be used here; "
                       f"there is: {', '.join(usable)}")
    return name


def parse_settings(words: list[str] | None) -> dict[str, object]:
    """["gamma1=0.5", "reduction=mean"] as {"gamma1": 0.5, "reduction": "mean"}; None, which
    is what no option at all comes as, as {}.

    Raises RunError for other forms.
    """
    settings = {}
    for word in words or ():
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise RunError(f"a setting has the form name=value, not {quoted(word)}")
        if name in settings:
            raise RunError(f"{quoted(name)} is given twice; name one value")
        try:
            settings[name] = parse_json(text)
        except ValueError:
            settings[name] = text
    return settings
