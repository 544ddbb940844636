"""How every tool begins and ends: whoever interrupts it, or a disk that is full, gets one line.

A tool imports this before anything that takes time, and ends with ``sys.exit(finish(main))``.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

STOPPED = "stopped; what was not finished is as it was"
INTERRUPTED = 130
OURS = [Path(__file__).resolve().parent, Path(__file__).resolve().parents[2] / "figures"]


def leave(*_: object) -> None:
    """End this process at once, with one line: every file is written whole or not at all."""
    os.write(2, f"{STOPPED}\n".encode())
    os._exit(INTERRUPTED)


def heed(handler: Callable[..., None]) -> None:
    """Call ``handler`` for an interrupt and for the signal that asks to end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


if Path(getattr(sys.modules["__main__"], "__file__", None) or ".").resolve().parent in OURS:
    heed(leave)

# isort: split
from disk import ChapterError  # noqa: E402


def finish(main: Callable[[], int]) -> int:
    """The exit status of a tool; what an author has to mend, and an error of the system, is one line."""
    try:
        return main()
    except ChapterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"error: {place}{error.strerror or error}", file=sys.stderr)
        return 1
