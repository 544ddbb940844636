"""How the tests themselves are run: on several cores, and where interrupts are ignored."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

FILES = {
    "test_a": "def test_first():\n    pass\n",
    "test_b": "import pytest\n\n@pytest.fixture(scope='module')\ndef dear():\n    pass\n\n"
              "@pytest.mark.parametrize('number', range(6))\ndef test_it(dear, number):\n    pass\n",
    "test_c": "import time\n\nimport pytest\n\n@pytest.mark.slow\ndef test_slow():\n    pass\n\n"
              "@pytest.mark.parametrize('number', range(6))\ndef test_it(number):\n    time.sleep(1)\n",
}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A repository with three files of tests and the real conftest."""
    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / "tests/conftest.py", tmp_path / "tests")
    for name, content in FILES.items():
        (tmp_path / f"tests/{name}.py").write_text(content)
    (tmp_path / "pytest.ini").write_text("[pytest]\ntestpaths = tests\nmarkers =\n    slow: takes long\n")
    return tmp_path


def pytest_prints(place: Path, *words: str) -> list[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]
    own = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}   # words for the tests around it
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=600, env=own)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout.splitlines()


@pytest.mark.slow
def test_who_shares_a_fixture_shares_a_process(small: Path) -> None:
    ran = [line.split() for line in pytest_prints(small, "-v", "-n", "2") if "PASSED" in line]
    assert len(ran) == 14
    processes = {name: {words[0] for words in ran if f"{name}.py" in words[-1]} for name in FILES}
    assert len(processes["test_b"]) == 1 and len(processes["test_c"]) == 2


def test_what_takes_longest_comes_first(small: Path) -> None:
    listed = [line.partition("/")[2].partition("[")[0] for line in pytest_prints(small, "-q", "--collect-only") if "::" in line]
    assert listed == ["test_c.py::test_slow", *["test_b.py::test_it"] * 6, "test_a.py::test_first", *["test_c.py::test_it"] * 6]


def test_an_ignored_interrupt_is_heard_by_what_the_tests_start() -> None:
    """As under `make test &` in a script, where the shell has SIGINT ignored."""
    child = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    script = ("import signal, subprocess, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
              f"sys.path.insert(0, {str(ROOT / 'tests')!r}); import conftest; subprocess.run([sys.executable, '-c', {child!r}])")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
