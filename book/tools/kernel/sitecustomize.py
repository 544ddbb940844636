"""Runs in every Python that a chapter starts, since ``execute.py`` puts this folder first on PYTHONPATH: see ``reads.py``."""

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path

FOLDER = Path(__file__).parent


def run_the_other() -> None:
    """Run the ``sitecustomize`` that this one hides, if the machine has one."""
    spec = PathFinder.find_spec("sitecustomize", [place for place in sys.path if Path(place) != FOLDER])
    if spec is not None:
        spec.loader.exec_module(module_from_spec(spec))


if "CDLM_READS" in os.environ:
    sys.path.insert(0, str(FOLDER.parent))
    import reads

    sys.path.remove(str(FOLDER.parent))
    reads.watch(os.environ["CDLM_READS_ROOT"], os.environ["CDLM_READS"])
run_the_other()
