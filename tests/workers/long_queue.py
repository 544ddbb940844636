"""A queue of two runs that take a minute or more, for two workers, to be killed: python long_queue.py FOLDER.

A row of the log, the first sign that a run is under way, comes after a twentieth of the steps.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cdlm.experiments.plan import Job
from cdlm.experiments.queue import by_processes, reproduce
from cdlm.runs.spec import RunSpec

if __name__ == "__main__":
    place = Path(sys.argv[1])
    todo = [Job(f"long_{seed}", RunSpec("source", "mnist", "optdigits", seed, 20_000, 4, {"width": 2})) for seed in (1, 2)]
    reproduce(todo, place / "records", place / "runs", carry=by_processes(2), quiet=True)
