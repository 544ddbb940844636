"""How commands end where nobody waits for them: an interrupt while they load, a reader that has gone, a foreign repository."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT
from shell import posix

CDLM = [sys.executable, "-m", "cdlm"]
QUICK = ["train", "mnist", "optdigits", "--size", "sample", "--method", "source", "--steps", "3", "--set", "width=2",
         "--batch-size", "4", "--device", "cpu"]


@posix
@pytest.mark.parametrize("seconds", [0.6, 1.5, *(pytest.param(0.2 * n, marks=pytest.mark.slow) for n in range(3, 30, 5))])
def test_an_interrupt_while_torch_is_imported_is_not_answered_by_a_traceback(seconds: float, tmp_path: Path) -> None:
    process = subprocess.Popen([*CDLM, *QUICK, "--out", str(tmp_path / "run")], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True)
    marker = Path(f"/proc/{process.pid}/maps")
    while marker.exists() and "libtorch" not in marker.read_text() and seconds < 1 and process.poll() is None:
        time.sleep(0.02)                                            # the short ones: as soon as torch is being loaded
    if seconds >= 1:
        time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=600)
    assert errors.count("\n") <= 1 and "Traceback" not in errors, errors
    assert process.returncode in (0, 130, -signal.SIGINT)
    assert not (tmp_path / "run").exists() or process.returncode == 0


@pytest.mark.slow
@posix
def test_an_interrupt_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """As a shell without job control starts a command with `&`."""
    def ignoring() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    process = subprocess.Popen([*CDLM, *QUICK, "--out", str(tmp_path / "run"), "--checkpoint-every", "0"], preexec_fn=ignoring,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=600)
    assert process.returncode == 0 and (tmp_path / "run/metrics.json").exists()


@pytest.mark.slow
@posix
@pytest.mark.parametrize("words", [[*QUICK, "--out", "run"], ["data", "list"]])
def test_a_reader_that_has_gone_is_no_error(words: list[str], tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*CDLM, *words], stdout=writing, stderr=subprocess.PIPE, text=True, cwd=tmp_path, timeout=600)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
    assert words[0] != "train" or (tmp_path / "run/metrics.json").exists()


def test_the_command_is_entered_without_torch() -> None:
    code = "import sys, cdlm.__main__; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert 'cdlm = "cdlm.__main__:main"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.slow
def test_a_package_inside_of_another_repository_does_not_take_its_revision(tmp_path: Path) -> None:
    """Installed in an environment within somebody's project, and under a hook of git there."""
    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", *who, *words], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()
    place = tmp_path / ".venv/lib/site-packages"
    shutil.copytree(ROOT / "cdlm", place / "cdlm", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / ".gitignore").write_text(".venv\n")
    git("init", "-q"), git("add", "."), git("commit", "-qm", "theirs")
    code = [sys.executable, "-c", "from cdlm.provenance import revision; print(revision())"]

    def asked(**more: str) -> str:
        found = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        found |= {"PYTHONPATH": str(place)} | more
        return subprocess.run(code, cwd=place, env=found, capture_output=True, text=True, check=True).stdout.strip()
    assert asked() == asked(GIT_DIR=str(tmp_path / ".git"), GIT_WORK_TREE=str(tmp_path)) == "None"
    git("add", "-f", ".venv"), git("commit", "-qm", "now it is a part of theirs")
    assert asked() == git("rev-parse", "--short=12", "HEAD")
