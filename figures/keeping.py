"""What the scripts of this folder share: how a file takes the place of an old one, by the tools of the book."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "tools"))

from program import finish  # noqa: E402

# isort: split
from checksums import keep_checksum  # noqa: E402
from disk import write_atomically  # noqa: E402

__all__ = ["ROOT", "finish", "keep_svg", "keep_up_to_date", "write_atomically"]


def keep_svg(path: Path, content: str) -> None:
    """Write a drawing, whole or not at all, and note its checksum."""
    write_atomically(path, content)
    keep_checksum(ROOT, path)


def keep_up_to_date(path: Path, content: str, keep: Callable[[Path, str], None], advice: str) -> bool:
    """Write a file that is not what it should be; with ``--check`` say so, with an advice, and leave it. Whether it is amiss."""
    if path.exists() and path.read_bytes() == content.encode():
        return False
    if "--check" in sys.argv:
        print(f"error: {path.name} is not {advice}", file=sys.stderr)
        return True
    keep(path, content)
    return False
