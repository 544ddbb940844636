"""What this book adds to Sphinx: the package on the path for the API pages."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def setup(app):
    sys.path.insert(0, str(ROOT))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
