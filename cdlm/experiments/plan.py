"""From a table or a figure to the runs behind it: variants, tasks, seeds, profiles.

Generated from book/src/80_plan_and_queue.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from cdlm.experiments.paper import PAPER, TASKS
from cdlm.files import RunError
from cdlm.methods.registry import METHODS, build_config
from cdlm.runs.spec import RunSpec
from cdlm.settings import flat

__all__ = [
    "ADVERSARIAL",
    "BARE_ADVERSARIAL",
    "BARE_SOURCE_ONLY",
    "BUDGETS",
    "COLOR",
    "COLORED",
    "COLOR_SETTINGS",
    "CONTROL",
    "Cell",
    "FAITHFUL",
    "FIGURE_TASKS",
    "FIGURE_VARIANTS",
    "GRAY",
    "GRAY_STRONG",
    "IMPROVED",
    "Job",
    "SOURCE_ONLY",
    "STATISTICS_ALONE",
    "TABLE_TASKS",
    "TARGET_ONLY",
    "Variant",
    "cells",
    "changed_recipe",
    "color_settings",
    "in_color_domain",
    "job",
    "jobs",
    "table_rows",
    "trains_itself",
]


# 80_plan_and_queue: From a table to runs

BUDGETS = {"smoke": {"steps": 20, "width": 4}, "book": {"steps": 300, "width": 8},
           "full": {"steps": 2000, "width": 16}, "gpu": {"steps": 5000, "width": 64}}
# how images are changed in tasks without color
GRAY = {"degrees": 15.0, "shift": 0.07, "scale": 0.1}
GRAY_STRONG = {"degrees": 25.0, "shift": 0.1, "scale": 0.2, "contrast": 0.5}
COLOR = {"contrast": 0.5, "invert": 0.5, "brightness": 0.3}  # and where a domain is in color
COLORED = ("mnistm", "fashionm")
COLOR_SETTINGS = {"standardize": True, "self_training": 0.0}  # of the recipe's methods


@dataclass(frozen=True)
class Variant:
    """One way to train: a method with settings, augmented or not.

    ``name`` is that of its records.
    """

    name: str
    method: str
    settings: dict[str, float | int | bool | str] = field(default_factory=dict)
    augmented: bool = True
    bare: bool = False  # nothing of the recipe: images as they are, whatever the task
    # trained with labels of the target's training images: the upper bound
    on_target: bool = False
    gray_only: bool = False             # in tasks with color it would be another variant


class Cell(NamedTuple):
    """One entry of a table: its row, whose settings they are, its task, how it is trained."""

    table: str
    row: str
    recipe: str
    task: str
    variant: Variant


class Job(NamedTuple):
    """One run of the queue; ``name`` is that of its record."""

    name: str
    spec: RunSpec


def in_color_domain(task: str) -> bool:
    """Whether a domain of a task is in color, which is known without any label."""
    return any(domain in COLORED for domain in task.split("-"))


def trains_itself(method: str, settings: dict[str, object]) -> bool:
    """Whether a method with these settings needs target images a second time, for
    self-training."""
    return METHODS[method][0].needs_second_view(build_config(method, settings))


def color_settings(method: str) -> dict[str, float | bool]:
    """What a method is given where a domain is in color: standardized images, where it can
    have them, and no self-training where that is an addition and not the method itself."""
    added = COLOR_SETTINGS if method in ("plain", "improved") else {"standardize": True}
    known = flat(build_config(method, {}))
    return {name: value for name, value in added.items() if name in known}


def job(variant: Variant, task: str, seed: int, profile: str = "full") -> Job:
    """The run of a variant on a task.

    Where a domain is in color, images are recolored at random instead of moved, and settings
    are those of ``color_settings``. Raises RunError for a profile there is not.
    """
    if profile not in BUDGETS:
        raise RunError(f"profile {profile!r}; there are {', '.join(BUDGETS)}")
    steps, width = BUDGETS[profile]["steps"], BUDGETS[profile]["width"]
    source, target = task.split("-")
    color = in_color_domain(task)
    settings = {"width": width} | variant.settings
    if color and not variant.bare:
        settings |= color_settings(variant.method)
    augment = (COLOR if color else GRAY) if variant.augmented and not variant.bare else {}
    strong = GRAY_STRONG if trains_itself(variant.method, settings) else {}
    size = "full" if profile in ("full", "gpu") else "best"
    spec = RunSpec(variant.method, target if variant.on_target else source, target, seed,
                   steps, 64, settings, size, "bfloat16", augment, strong)
    return Job(f"{task}_{variant.name}_s{seed}", spec)


FAITHFUL = Variant("faithful", "cdlm", bare=True)
IMPROVED = Variant("improved", "improved")
SOURCE_ONLY = Variant("source-only", "plain")
BARE_SOURCE_ONLY = Variant("source-only-bare", "plain", bare=True)
TARGET_ONLY = Variant("target-only", "plain", on_target=True)
ADVERSARIAL = Variant("adversarial", "plain", {"reversal": 1.0})
BARE_ADVERSARIAL = Variant("adversarial-bare", "plain", {"reversal": 1.0}, bare=True)
CONTROL = Variant("no-decoder", "plain",
                  {"reversal": 0.15, "domain_statistics": True, "conditional": True,
                   "entropy": 0.1, "self_training": 1.0})

STATISTICS_ALONE = Variant("statistics-alone", "improved", {
    "conditional": False, "entropy": 0.0, "self_training": 0.0, "draws_plain": False},
                           bare=True)


def changed_recipe(name: str, augmented: bool = True,
                   **settings: float | int | bool | str) -> Variant:
    """The improved recipe with some of its settings changed."""
    return Variant(f"improved-{name}", "improved", settings, augmented)


TableRow = tuple[str, str, Variant]  # what it is called, whose settings they are, the variant

COMPARISON: list[TableRow] = [
    ("source only without augmentation", "faithful", BARE_SOURCE_ONLY),
    ("DANN without augmentation", "faithful", BARE_ADVERSARIAL),
    ("CDLM", "faithful", FAITHFUL),
    ("source only", "improved", SOURCE_ONLY),
    ("DANN", "improved", ADVERSARIAL),
    ("no decoder", "improved", CONTROL),
    ("CDLM", "improved", IMPROVED),
    ("target only", "improved", TARGET_ONLY),
]


ABLATIONS: dict[str, list[TableRow]] = {
    "table3": [("without L_c", "improved", changed_recipe("no-lc", beta1=0.0, beta2=0.0)),
               ("L_c^t alone", "improved", changed_recipe("lct", beta1=0.0)),
               ("L_c^s alone", "improved", changed_recipe("lcs", beta2=0.0)),
               ("both", "improved", IMPROVED)],
    "table5": [("Conv4", "improved", changed_recipe("conv4", tap="conv2")),
               ("Conv5", "improved", changed_recipe("conv5", tap="conv3")),
               ("Convlast", "improved", IMPROVED)],
    "table6": [
        ("(0.1, 1.0)", "improved", changed_recipe("g0.1-1.0", gamma1=0.1, gamma2=1.0)),
        ("(0.5, 0.5)", "improved", changed_recipe("g0.5-0.5", gamma1=0.5, gamma2=0.5)),
        ("(0.9, 0.1)", "improved", changed_recipe("g0.9-0.1", gamma1=0.9)),
        ("(1.0, 0.1)", "improved", IMPROVED),
        ("(1.0, 0)", "improved", changed_recipe("g1.0-0", gamma2=0.0))],
    "table7": [("PM1", "improved", changed_recipe("pm1", modulation="pm1")),
               ("PM2", "improved", changed_recipe("pm2", modulation="pm2")),
               ("full", "improved", IMPROVED)],
}


INGREDIENTS: list[TableRow] = [
    ("all", "improved", IMPROVED),
    ("none", "faithful", FAITHFUL),
    ("statistics by domain alone", "faithful", STATISTICS_ALONE),
    ("without statistics by domain", "improved",
     changed_recipe("no-statistics", domain_statistics=False)),
    ("without augmentation", "improved", changed_recipe("no-augmentation", augmented=False)),
    ("without conditioning", "improved", changed_recipe("unconditional", conditional=False)),
    ("without entropy", "improved", changed_recipe("no-entropy", entropy=0.0)),
    ("without self-training", "improved",
     Variant("improved-no-self-training", "improved", {"self_training": 0.0}, gray_only=True)),
    ("without plain drawings", "improved",
     changed_recipe("changed-drawings", draws_plain=False)),
    ("without a decoder", "improved", CONTROL),
]


NEIGHBORS: list[TableRow] = [
    *(row for row in COMPARISON if row[1] == "improved"),
    *((name, "neighbor", Variant(f"neighbor-{method}", method)) for name, method in (
        ("CDAN+E", "cdan"), ("TPN", "tpn"), ("SymmNets-V2", "symmnets"), ("ILA-DA", "ilada"),
        ("MCC", "mcc"), ("SHOT", "shot"), ("AdaMatch", "adamatch"), ("PixelDA", "pixelda"),
        ("GtA", "gta"), ("CyCADA", "cycada"), ("UNIT", "unit"), ("CDRD", "cdrd"),
        ("E-CDRD", "ecdrd"), ("DATL", "datl"), ("StarGAN", "stargan"))),
]


def table_rows() -> dict[str, list[tuple[str, str, Variant]]]:
    """Rows of each table: name, recipe, variant. A variant that two tables share is
    run once."""
    return {"table2": COMPARISON, **ABLATIONS, "ingredients": INGREDIENTS,
            "neighbors": NEIGHBORS}


TABLE_TASKS = {"table2": TASKS, "table3": tuple(PAPER["table3"]["both"]),
               "table5": tuple(PAPER["table5"]["Convlast"]),
               "table6": tuple(PAPER["table6"]["(1.0, 0.1)"]),
               "table7": tuple(PAPER["table7"]["full"]),
               "ingredients": ("mnist-usps", "fashion-fashionm"),
               "neighbors": TASKS}
FIGURE_TASKS = {"fig5": TASKS, "fig7": ("mnistm-mnist", "mnist-usps"),
                "fig9": ("mnist-usps", "usps-mnist", "mnist-mnistm", "mnistm-mnist"),
                "fig10": ("mnist-usps",)}
FIGURE_VARIANTS = {"fig5": (IMPROVED,), "fig7": (IMPROVED,), "fig9": (ADVERSARIAL, IMPROVED),
                   "fig10": (ADVERSARIAL, FAITHFUL, IMPROVED)}


def cells(table: str) -> list[Cell]:
    """All entries of a table that we run, row by row.

    Raises RunError for a table there is not.
    """
    if table not in TABLE_TASKS:
        raise RunError(f"{table!r} is no table of ours; there are {', '.join(TABLE_TASKS)}")
    return [Cell(table, row, recipe, task, variant)
            for row, recipe, variant in table_rows()[table] for task in TABLE_TASKS[table]
            if not (variant.gray_only and in_color_domain(task))]


def jobs(what: str, seeds: Iterable[int], profile: str = "full") -> list[Job]:
    """The runs behind a table or a figure, seed by seed, each once.

    Raises RunError for what is neither.
    """
    if what in FIGURE_TASKS:
        wanted = [(variant, task) for variant in FIGURE_VARIANTS[what]
                  for task in FIGURE_TASKS[what]]
    elif what in TABLE_TASKS:
        wanted = [(cell.variant, cell.task) for cell in cells(what)]
    else:
        raise RunError(f"nothing is called {what!r} here; "
                       f"there are {', '.join((*TABLE_TASKS, *FIGURE_TASKS))}")
    return list({found.name: found for seed in seeds
                 for found in (job(*pair, seed, profile) for pair in wanted)}.values())
