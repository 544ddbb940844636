"""What the paper reports: the numbers of its tables, for the rows that are run here.

Generated from book/src/80_plan_and_queue.md, book/src/84c_renders.md by `make sync`: edit
there, not here.
"""

from __future__ import annotations

__all__ = ["LINEMOD", "PAPER", "PAPER_LINEMOD", "PAPER_NEIGHBORS", "TASKS"]


# 80_plan_and_queue: What the paper reports

TASKS = ("mnist-usps", "usps-mnist", "mnist-mnistm", "mnistm-mnist", "fashion-fashionm",
         "fashionm-fashion")


PAPER_TABLE2 = {
    "source only": dict(zip(TASKS, (0.634, 0.625, 0.561, 0.633, 0.527, 0.612))),
    "DANN": dict(zip(TASKS, (0.774, 0.833, 0.766, 0.851, 0.765, 0.822))),
    "CDLM": dict(zip(TASKS, (0.961, 0.983, 0.987, 0.962, 0.913, 0.922))),
    "target only": dict(zip(TASKS, (0.980, 0.985, 0.983, 0.985, 0.920, 0.942))),
}


PAPER_NEIGHBORS = {
    "CDAN": dict(zip(TASKS, (0.956, 0.980, 0.862, 0.902, 0.875, 0.891))),
    "TPN": dict(zip(TASKS, (0.921, 0.941))),
    "SymmNets-V2": dict(zip(TASKS, (0.948, 0.968))),
    "ILA-DA": dict(zip(TASKS, (0.949, 0.975))),
    "PixelDA": dict(zip(TASKS, (0.959, 0.942, 0.982, 0.922, 0.805, 0.762))),
    "GtA": dict(zip(TASKS, (0.953, 0.908, 0.917, 0.932, 0.855, 0.893))),
    "CyCADA": dict(zip(TASKS, (0.956, 0.965, 0.921, 0.943, 0.874, 0.915))),
    "UNIT": dict(zip(TASKS, (0.960, 0.951, 0.920, 0.932, 0.796, 0.805))),
    "DATL": dict(zip(TASKS, (0.961, 0.956, 0.890, 0.983, 0.853, 0.917))),
}


PAPER: dict[str, dict[str, dict[str, float]]] = {
    "table2": PAPER_TABLE2, "neighbors": PAPER_TABLE2 | PAPER_NEIGHBORS,
    "table3": {
        row: dict(zip(("mnist-usps", "usps-mnist", "fashion-fashionm", "fashionm-fashion"),
                      values)) for row, values in (
                          ("without L_c", (0.635, 0.683, 0.646, 0.672)),
                          ("L_c^t alone", (0.689, 0.695, 0.682, 0.691)),
                          ("L_c^s alone", (0.951, 0.980, 0.912, 0.915)),
                          ("both", (0.961, 0.983, 0.913, 0.922)))
    },
    "table5": {
        row: dict(zip(("mnist-usps", "fashion-fashionm"), values)) for row, values in (
            ("Conv4", (0.954, 0.890)), ("Conv5", (0.956, 0.905)), ("Convlast", (0.961, 0.913)))
    },
    "table6": {
        row: dict(zip(("mnist-usps", "fashion-fashionm"), values)) for row, values in (
            ("(0.1, 1.0)", (0.320, 0.226)), ("(0.5, 0.5)", (0.723, 0.513)),
            ("(0.9, 0.1)", (0.961, 0.912)),
            ("(1.0, 0.1)", (0.961, 0.913)), ("(1.0, 0)", (0.961, 0.913)))
    },
    "table7": {
        row: dict(zip(("mnist-mnistm", "mnist-usps"), values)) for row, values in (
            ("PM1", (0.959, 0.950)), ("PM2", (0.967, 0.953)), ("full", (0.987, 0.961)))
    },
}
"""Accuracies that the paper's Tables 2, 3, 5, 6 and 7 report for the rows that we run, by
table, row and task."""


# 84c_renders: The column of LineMod

LINEMOD = "linemod3d-linemodreal"
PAPER_LINEMOD = {"source only": 0.632, "DANN": 0.832, "CDLM": 0.984, "target only": 0.998}
"""The last column of the paper's Table 2, for the rows that we run."""
