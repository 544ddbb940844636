"""Where a number comes from: versions, the code's fingerprint, the revision, the hardware.

Generated from book/src/02_records.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

__all__ = ["code_fingerprint", "processor", "provenance", "revision"]


# 02_records: Where it was run

def code_fingerprint() -> str:
    """SHA-256 over the source files of the package, shortened: the same code gives the same
    fingerprint anywhere."""
    import cdlm
    digest = hashlib.sha256()
    for path in sorted(Path(cdlm.__file__).parent.rglob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def revision() -> str | None:
    """The commit that the package's folder stands at, with "+" if its files differ from it;
    None where its files are in no commit: outside git, or installed inside of another
    repository."""
    import cdlm
    folder = Path(cdlm.__file__).parent
    own = {name: value for name, value in os.environ.items() if name[:4] != "GIT_"}
    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(folder), *words], capture_output=True,
                              text=True, check=True, env=own).stdout.strip()
    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        return (git("rev-parse", "--short=12", "HEAD")
                + ("+" if git("status", "--porcelain", ".") else ""))
    except (OSError, subprocess.CalledProcessError):
        return None


def processor() -> str:
    """The processor's name, as well as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip()
                    for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def provenance(device: str) -> dict[str, object]:
    """Versions, code and hardware behind a number."""
    packages = ("torch", "torchvision", "numpy", "scikit-learn", "mlxtend")
    return {"python": platform.python_version(),
            "packages": {name: version(name) for name in packages}, "code": code_fingerprint(),
            "revision": revision(), "system": platform.system(),
            "threads": torch.get_num_threads(), "hardware": torch.cuda.get_device_name()
            if device.startswith("cuda") else processor()}
