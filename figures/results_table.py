"""Writes the README's table of results from the records in book/results.

    python figures/results_table.py            write it
    python figures/results_table.py --check    fail if it is not what the records say
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import mean, stdev

ROOT = Path(__file__).resolve().parents[1]
START, END = "<!-- results: written by figures/results_table.py -->", "<!-- end of results -->"
TASKS = {"MNIST → optical digits": "mnist-optdigits", "optical digits → MNIST": "optdigits-mnist"}
METHODS = {"source only": "source", "DANN": "dann", "CDLM (read from x̃_t)": "cdlm"}


def cell(task: str, method: str) -> str:
    """Mean and standard deviation of one record's target accuracies."""
    record = json.loads((ROOT / f"book/results/{task}_{method}.json").read_text(encoding="utf-8"))
    accuracies = [run["target_accuracy"] for run in record["runs"]]
    return f"{mean(accuracies):.3f} ± {stdev(accuracies):.3f}"


def table() -> str:
    rows = [["", *TASKS], ["---"] * (len(TASKS) + 1)]
    rows += [[name, *(cell(task, method) for task in TASKS.values())] for name, method in METHODS.items()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> int:
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    head, tail = text.split(START)[0], text.split(END)[1]
    new = f"{head}{START}\n\n{table()}\n\n{END}{tail}"
    if new == text:
        return 0
    if "--check" in sys.argv:
        print("error: README's results are not those of the records; `make execute`", file=sys.stderr)
        return 1
    readme.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
