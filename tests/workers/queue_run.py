"""`cdlm` with a plan of two small runs, in a process of its own: python queue_run.py reproduce table2 ...

The runs are of the digits that come with packages; all else is the real command. SIGINT is heard even where the shell that
started this process had it ignored.
"""

from __future__ import annotations

import signal

from cdlm.cli.app import main
from cdlm.experiments import plan

TASK = "mnist-optdigits"
ROWS = [("source only", "improved", plan.SOURCE_ONLY), ("DANN", "improved", plan.ADVERSARIAL)]


def shrink(rows: list = ROWS) -> None:
    """Leave one table in the plan, with these rows and one task."""
    plan.table_rows = lambda: {"table2": rows}
    plan.TABLE_TASKS.clear()
    plan.TABLE_TASKS["table2"] = (TASK,)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    shrink()
    main()
