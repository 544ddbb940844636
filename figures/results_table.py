"""Writes the README's table of results, and the findings above it, from the records in book/results.

    python figures/results_table.py            write it
    python figures/results_table.py --check    fail if it is not what the records say
"""

from __future__ import annotations

import sys
from pathlib import Path

from cdlm.experiments.findings import as_stated, control_unbeaten, improved_beside_dann
from cdlm.experiments.paper import PAPER, TASKS
from cdlm.experiments.results import result_rows

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "book/results/runs"
START, END = "<!-- results: written by figures/results_table.py -->", "<!-- end of results -->"
NAMES = {"mnist": "MNIST", "usps": "USPS", "mnistm": "MNIST-M", "fashion": "Fashion", "fashionm": "Fashion-M"}
RECIPES = {"faithful": ", as the paper states it", "improved": ", improved"}


def cell(row: dict) -> str:
    """Mean and standard deviation over seeds of one entry, with their number where it is not three."""
    count = len(row["seeds"])
    if not count:
        return ""
    spread = f" ± {row['std']:.3f}" if count > 1 else ""
    return f"{row['mean']:.3f}{spread}" + ("" if count == 3 else f" ({count})")


def table() -> str:
    """Table 2: a row for each method, ours and in italics the paper's."""
    found: dict[str, list[str]] = {}
    for row in (row for row in result_rows(RUNS) if row["table"] == "table2"):
        name = row["method"] + (RECIPES.get(row["recipe"], "") if row["method"] == "CDLM" else "")
        found.setdefault(name, []).append(cell(row))
    for name, numbers in PAPER["table2"].items():
        found[f"*{name}, in the paper*"] = [f"*{numbers[task]:.3f}*" for task in TASKS]
    heads = [" → ".join(NAMES[domain] for domain in task.split("-")) for task in TASKS]
    rows = [["", *heads], ["---"] * (len(TASKS) + 1)] + [[name, *cells] for name, cells in found.items()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def findings() -> str:
    """What came out, in sentences that the records bear. Raises AssertionError where they do not."""
    return " ".join(finding(RUNS) for finding in (as_stated, improved_beside_dann, control_unbeaten))


def main() -> int:
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    head, tail = text.split(START)[0], text.split(END)[1]
    new = f"{head}{START}\n\n{findings()}\n\n{table()}\n\n{END}{tail}"
    if new == text:
        return 0
    if "--check" in sys.argv:
        print("error: README's results are not those of the records; `make execute`", file=sys.stderr)
        return 1
    readme.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
