"""The same tasks with fewer images, and with images in a frame: their domains and runs.

Generated from book/src/82b_fairly.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cdlm.data.archives import DataError, read_usps
from cdlm.data.domain import Recipe, Split
from cdlm.data.search import Search
from cdlm.domains.catalog import CATALOG
from cdlm.domains.digits import USPS_FILES, build_mnist, build_usps
from cdlm.experiments.plan import Job, job, table_rows
from cdlm.experiments.queue import by_processes, reproduce
from cdlm.experiments.results import cell_values, read_runs

__all__ = [
    "Cells",
    "Distances",
    "PROTOCOLS",
    "PROTOCOL_RECIPES",
    "PROTOCOL_ROWS",
    "build_framed_usps",
    "changed_recipe_of",
    "distances",
    "fewer",
    "framed",
    "pair_distance",
    "protocol_accuracies",
    "protocol_domains",
    "protocol_jobs",
    "reproduce_protocols",
]


# 82b_fairly: The protocol as well

def fewer(build: Callable[[Search], tuple[Split, Split]], count: int
          ) -> Callable[[Search], tuple[Split, Split]]:
    """A way to build a set with ``count`` of its images to train, drawn at random with a fixed
    seed and kept in their order; images to test are all there.

    What it returns raises DataError where there are not so many.
    """
    def build_fewer(search: Search) -> tuple[Split, Split]:
        train, test = build(search)
        if len(train) < count:
            raise DataError(f"{len(train)} images to train are here, and {count} are to be "
                            "drawn from them: get the whole set")
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
        chosen = order[:count].sort().values
        return Split(train.images[chosen], train.labels[chosen]), test
    return build_fewer


def framed(images: Tensor, size: int) -> Tensor:
    """Bytes (N, C, n, n), n at most ``size``, as they are in the middle of black ones,
    (N, C, size, size)."""
    before = (size - images.shape[-1]) // 2
    after = size - images.shape[-1] - before
    return F.pad(images, (before, after, before, after))


def build_framed_usps(search: Search) -> tuple[Split, Split]:
    """USPS, whole, its 16 x 16 pixels in a black frame of 28 x 28."""
    folder = search.find(USPS_FILES)
    (train, y_train), (test, y_test) = (read_usps(folder / name)
                                        for name in ("usps.bz2", "usps.t.bz2"))
    return Split(framed(train, 28), y_train), Split(framed(test, 28), y_test)


def changed_recipe_of(name: str, new: str, title: str, train: int,
                      build: Callable[[Search], tuple[Split, Split]]) -> Recipe:
    """The recipe of a domain of the catalog under a new name, built in another way, with so
    many images to train and without a sample."""
    known = CATALOG[name]
    return replace(known, name=new, title=title, counts=(train, known.counts[1]), build=build,
                   sample=None, sample_counts=None, count=None)


PROTOCOL_RECIPES = {recipe.name: recipe for recipe in (
    changed_recipe_of("mnist", "mnist2000", "MNIST, 2,000 to train", 2000,
                      fewer(build_mnist, 2000)),
    changed_recipe_of("usps", "usps1800", "USPS, 1,800 to train", 1800,
                      fewer(build_usps, 1800)),
    changed_recipe_of("usps", "uspsframed", "USPS in a frame", 7291, build_framed_usps))}

# what a task is called under each protocol
PROTOCOLS = {"standard": {"mnist-usps": "mnist-usps", "usps-mnist": "usps-mnist"},
             "small": {"mnist-usps": "mnist2000-usps1800",
                       "usps-mnist": "usps1800-mnist2000"},
             "padded": {"mnist-usps": "mnist-uspsframed",
                        "usps-mnist": "uspsframed-mnist"}}
PROTOCOL_ROWS = ("source only", "DANN", "CDAN+E", "no decoder", "CDLM")


@contextmanager
def protocol_domains() -> Iterator[None]:
    """Within the block the catalog has the domains of the protocols, too."""
    CATALOG.update(PROTOCOL_RECIPES)
    try:
        yield
    finally:
        for name in PROTOCOL_RECIPES:
            CATALOG.pop(name, None)


def protocol_jobs(seeds: Iterable[int], profile: str = "full") -> list[Job]:
    """The runs of some rows of the table under protocols that are not the standard one, seed
    by seed. Raises RunError for a profile there is not."""
    rows = {row: variant for row, _, variant in table_rows()["neighbors"]}
    return [job(rows[row], name, seed, profile) for seed in seeds for row in PROTOCOL_ROWS
            for protocol, tasks in PROTOCOLS.items() if protocol != "standard"
            for name in tasks.values()]


def reproduce_protocols(todo: Sequence[Job], results: Path, folders: Path,
                        quiet: bool = False) -> list[str]:
    """``reproduce`` for these runs, one after the other on the CPU."""
    with protocol_domains():
        return reproduce(todo, results, folders, carry=by_processes(1), quiet=quiet)


Cells = dict[str, dict[str, dict[int, float]]]  # target accuracy by row, protocol and seed


def protocol_accuracies(task: str, standard: Path, others: Path) -> Cells:
    """Target accuracies of the last step on a task, by row, protocol and seed; {} in a cell
    without runs. Records of the standard protocol lie in one folder, the others in another."""
    rows = {row: variant for row, _, variant in table_rows()["neighbors"]}
    found: Cells = {row: {} for row in PROTOCOL_ROWS}
    for row in PROTOCOL_ROWS:
        for protocol, tasks in PROTOCOLS.items():
            runs = read_runs(rows[row], tasks[task],
                             standard if protocol == "standard" else others)
            found[row][protocol] = dict(zip((run["spec"]["seed"] for run in runs),
                                            cell_values(runs).tolist()))
    return found


def pair_distance(cells: Iterable[Mapping[int, float]]) -> float:
    """Mean absolute difference of two of several cells at a seed that both have; not a number
    where there are no two."""
    apart = [abs(one[seed] - other[seed]) for one, other in combinations(cells, 2)
             for seed in one.keys() & other.keys()]
    return sum(apart) / len(apart) if apart else float("nan")


class Distances(NamedTuple):
    """How far accuracies are apart in the mean where one thing differs, and what stays."""

    seeds: dict[str, float]         # two seeds, by row, under the standard protocol
    protocols: dict[str, float]     # two protocols, by row
    methods: dict[str, float]       # two rows, by protocol


def distances(found: Cells) -> Distances:
    """Mean distances of accuracies by row, protocol and seed; what has no pair is left out."""
    apart = Distances(
        {row: pair_distance([{0: value} for value in cells.get("standard", {}).values()])
         for row, cells in found.items()},
        {row: pair_distance(cells.values()) for row, cells in found.items()},
        {protocol: pair_distance([cells.get(protocol, {}) for cells in found.values()])
         for protocol in PROTOCOLS})
    return Distances(*({name: value for name, value in kind.items() if value == value}
                       for kind in apart))
