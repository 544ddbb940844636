"""Commands as tests give them: in this process, and what an error of theirs looks like."""

from __future__ import annotations

import os
import subprocess

import pytest
from typer.testing import CliRunner

from cdlm.cli.app import app

posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX systems")


def here(*words: object) -> subprocess.CompletedProcess:
    """What the command does, in this process: faster, where it is the message that counts."""
    done = CliRunner().invoke(app, [*map(str, words)])
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)


def assert_one_line(done: subprocess.CompletedProcess, words: str, status: int = 1) -> None:
    assert done.returncode == status
    assert done.stderr.startswith("error: ") and words in done.stderr
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
