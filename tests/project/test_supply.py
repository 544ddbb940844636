"""What comes from others, and when: the lock file, and that nothing asks the network on its own."""

from __future__ import annotations

import importlib.metadata
import os
import pkgutil
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_project import BOOK_NEEDS, EXTRA_NEEDS, PACKAGE_NEEDS

import cdlm

LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")


@cache
def locked() -> dict[str, str]:
    """Versions in the lock file, by package."""
    return {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+) \\$", LOCK, flags=re.M)}


def test_the_lock_holds_versions_and_checksums_and_nothing_else() -> None:
    """No address of an index: where packages come from is the reader's affair; the checksums say whether they are these."""
    head, *entries = re.split(r"^(?=[a-z0-9])", LOCK, flags=re.M | re.I)
    assert re.fullmatch(r"(#.*\n)+", head)
    entry = re.compile(r"[\w.-]+==[\w.]+ \\\n(    --hash=sha256:[0-9a-f]{64} \\\n)*    --hash=sha256:[0-9a-f]{64}\n")
    assert len(entries) == len(locked()) > 150 and [found for found in entries if not entry.fullmatch(found)] == []


def test_the_lock_satisfies_every_bound() -> None:
    for needs in (PACKAGE_NEEDS, BOOK_NEEDS, *EXTRA_NEEDS.values()):
        for name, requirement in needs.items():
            assert name in locked(), name
            assert requirement.specifier.contains(locked()[name], prereleases=True), f"{requirement}, locked {locked()[name]}"


def test_the_lock_is_closed() -> None:
    """What a locked package needs is locked, too; judged by those packages that are installed here in the locked version."""
    environment, judged = default_environment() | {"extra": ""}, 0
    if sys.platform != "linux":
        pytest.skip("the lock is for Linux")
    for name, version in locked().items():
        try:
            there = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        judged += there.version == version
        for requirement in map(Requirement, (there.requires or []) if there.version == version else []):
            if requirement.marker is None or requirement.marker.evaluate(environment):
                found = locked().get(canonicalize_name(requirement.name))
                assert found and requirement.specifier.contains(found, prereleases=True), f"{name} needs {requirement}"
    if judged < len(locked()) / 2:
        pytest.skip(f"only {judged} of {len(locked())} packages are here in the locked version")


# No network

OFFLINE = """
import socket, sys

def refuse(event, values):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request"):
        raise OSError(f"asked for the network: {event} {values[-1]!r}")

sys.addaudithook(refuse)
"""


def offline(script: str, *paths: Path) -> subprocess.CompletedProcess:
    """Run a script in a Python that refuses to ask for anything beyond itself."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [ROOT, *paths])), "MPLBACKEND": "agg"}
    return subprocess.run([sys.executable, "-c", OFFLINE + script], env=environment, capture_output=True, text=True, timeout=600)


def test_the_guard_sees_who_asks() -> None:
    for script in ("import urllib.request; urllib.request.urlopen('https://example.org')",
                   "import socket; socket.create_connection(('127.0.0.1', 9))", "socket.getaddrinfo('example.org', 443)"):
        assert "asked for the network" in offline(script).stderr


@pytest.mark.slow
def test_no_module_asks_the_network_when_it_is_imported() -> None:
    modules = [info.name for info in pkgutil.walk_packages(cdlm.__path__, "cdlm.") if not info.name.endswith("__main__")]
    tools = [path.stem for folder in ("book/tools", "book/_ext", "figures") for path in (ROOT / folder).glob("*.py")]
    script = f"from importlib import import_module\nfor name in {modules + tools}:\n    import_module(name)\nprint('all')"
    done = offline(script, ROOT / "book/tools", ROOT / "book/_ext", ROOT / "figures")
    assert (done.returncode, done.stdout) == (0, "all\n"), done.stderr[-2000:]
    assert len(modules) > 60 and len(tools) > 15
