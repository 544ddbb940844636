"""What all commands share: errors in one line, devices, settings.

Generated from book/src/90_command_line.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import typer

from cdlm.data.archives import DataError
from cdlm.data.domain import MissingDataError, UnknownDomainError
from cdlm.files import RunError
from cdlm.theory.ledger import LedgerError
from cdlm.training.checkpoints import CheckpointError
from cdlm.training.watch import Interrupted, TrainingError

__all__ = [
    "DEVICE_OPTION",
    "JSON_OPTION",
    "choose_device",
    "clear_errors",
    "parse_settings",
    "tell_error",
]


# 90_command_line: Errors in one line

def tell_error(message: object) -> None:
    """One line on stderr; of several processes that torchrun has started, which all meet the
    same, the first one tells."""
    if os.environ.get("RANK", "0") == "0":
        typer.echo(f"error: {message}", err=True)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Errors that have an explanation become one line on stderr and exit status 1; an
    interrupt, 130."""
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
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
        signal.signal(signal.SIGTERM, previous)


# 90_command_line: The commands

DEVICE_OPTION = typer.Option(help="auto, cpu, cuda or mps")
JSON_OPTION = typer.Option("--json", help="print JSON")


def choose_device(name: str) -> str:
    """``name`` itself if torch can use it, or for "auto" the best there is.

    Raises RunError if it cannot.
    """
    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(),
              "cpu": True}
    if name == "auto":
        return next(device for device, there in usable.items() if there)
    if not usable.get(name.split(":")[0], False):
        there = ", ".join(device for device, is_there in usable.items() if is_there)
        raise RunError(f"device {name!r} cannot be used here; there is: {there}")
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
            raise RunError(f"a setting has the form name=value, not {word!r}")
        try:
            settings[name] = json.loads(text)
        except ValueError:
            settings[name] = text
    return settings
