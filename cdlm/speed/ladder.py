"""What a training step costs, way by way, and how that grows.

Generated from book/src/75_fast.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict

from cdlm.methods.cdlm import CDLM, CDLMConfig
from cdlm.provenance import provenance
from cdlm.speed.arithmetic import step_flops
from cdlm.speed.machine import (
    copy_work,
    interleaved,
    keep_memory,
    load_of_machine,
    matrix_work,
    measure_layers,
    peak_memory,
    time_by_group,
)
from cdlm.speed.ways import COMPILED, LADDER, Way, make_step

__all__ = [
    "QUICK",
    "fractions",
    "measure_bandwidth",
    "measure_ladders",
    "measure_memory",
    "measure_step",
    "step_table",
    "ways_to_measure",
]


# 75_fast: The ladder

def measure_ladder(ways: Mapping[str, Way], width: int, batch_size: int, rounds: int,
                   device: str = "cpu", matrix: int = 2048) -> dict[str, dict]:
    """Each way, and matrix products in both precisions, in interleaved rounds: seconds,
    GFLOP/s, and the share of the peak.

    The peak is the fastest product of matrices (matrix, matrix) of the same precision in the
    same rounds.
    """
    works = {name: make_step(way, width, batch_size, device=device)
             for name, way in ways.items()}
    matrices = {precision: matrix_work(precision, device, matrix)
                for precision in ("float32", "bfloat16")}
    def before(name: str) -> None:
        keep_memory(name in ways and ways[name].keeps_memory)
    for work in works.values():
        work()  # the first step of all allocates, and may compile
    taken = interleaved(works | {name: work for name, (work, _) in matrices.items()}, rounds,
                        device, before)
    keep_memory(False)
    peaks = {name: flops / min(taken[name]) / 1e9 for name, (_, flops) in matrices.items()}
    model, rows = CDLM(CDLMConfig.of(width=width)), {}
    for name, way in ways.items():
        flops, seconds = step_flops(model, batch_size, way.written), taken[name]
        rows[name] = {
            "min_ms": round(1000 * min(seconds), 3),
            "median_ms": round(1000 * statistics.median(seconds), 3),
            "gflop": round(flops / 1e9, 3), "gflops": round(flops / min(seconds) / 1e9, 2),
            "peak_fraction": round(flops / min(seconds) / 1e9 / peaks[way.precision], 4)}
    return {"ways": rows,
            "peak_gflops": {name: round(peak, 1) for name, peak in peaks.items()}}


# 75_fast: Larger batches, networks, images

# the others as in the book
GROWTH = {"batch size": (16, 64, 256), "width": (16, 32, 64), "image size": (28, 32, 64)}


def measure_growth(growth: Mapping[str, tuple[int, ...]], rounds: int,
                   device: str = "cpu") -> list[dict[str, object]]:
    """Images per second, of both domains together, and peak memory of a fused step as one
    thing grows at a time."""
    rows = []
    for axis, values in growth.items():
        for value in values:
            at = {"batch size": 64, "width": 16, "image size": 28, axis: value}
            ways = {p: Way(precision=p, channels_last=True, keeps_memory=True)
                    for p in ("float32", "bfloat16")}
            works = {name: make_step(way, at["width"], at["batch size"], at["image size"],
                                     device) for name, way in ways.items()}
            taken = interleaved(works, rounds, device, lambda name: keep_memory())
            rows += [{"axis": axis, "value": value, "precision": name,
                      "ms": round(1000 * min(taken[name]), 3),
                      "images_per_s": round(2 * at["batch size"] / min(taken[name]), 1),
                      "memory_mib": round(peak_memory(work, device) / 2**20, 1)}
                     for name, work in works.items()]
    keep_memory(False)
    return rows


# 75_fast: All of it in one command

def measure_ladders(widths: tuple[int, ...], ways: Mapping[str, Way], batch_size: int,
                    rounds: int, device: str, matrix: int) -> dict[str, dict]:
    """Ladder and profile by width, as text since JSON wants that; half as many rounds for wide
    networks, which are steadier."""
    ladders, profiles = {}, {}
    for width in widths:
        often = rounds if width < 64 else max(1, rounds // 2)
        ladders[str(width)] = measure_ladder(ways, width, batch_size, often, device, matrix)
        profiles[str(width)] = {p: time_by_group(
            make_step(Way(precision=p, channels_last=True), width, batch_size, device=device),
            max(1, often // 3), device) for p in ("float32", "bfloat16")}
    return {"ladder": ladders, "profile": profiles}


def fractions(ladders: Mapping[str, dict], batch_size: int) -> dict[str, object]:
    """The few numbers that a ladder comes down to: narrowest width for speed, widest for
    shares of the peak."""
    narrow, *_, wide = [*ladders, list(ladders)[-1]]
    over = {width: {name: ladder["ways"]["literal"]["min_ms"] / row["min_ms"]
                    for name, row in ladder["ways"].items()}
            for width, ladder in ladders.items()}
    rows, fastest = ladders[narrow]["ways"], {width: round(max(ratios.values()), 3)
                                              for width, ratios in over.items()}
    known, shares = {**LADDER, **COMPILED}, {"float32": [0.0], "bfloat16": [0.0]}
    for name, row in ladders[wide]["ways"].items():
        if known[name].written == "fused":
            shares[known[name].precision].append(row["peak_fraction"])
    return {"fused_over_literal": round(over[narrow]["fused"], 3),
            "fused_over_literal_by_width": {width: round(ratios["fused"], 3)
                                            for width, ratios in over.items()},
            "fastest_over_literal": fastest[narrow], "fastest_over_literal_by_width": fastest,
            "flops_literal_over_fused": round(
                rows["literal"]["gflop"] / rows["fused"]["gflop"], 3),
            "peak_fraction_float32": max(shares["float32"]),
            "peak_fraction_bfloat16": max(shares["bfloat16"]),
            "images_per_s": round(
                2 * batch_size * 1000 / min(row["min_ms"] for row in rows.values()), 1)}


QUICK = ("literal", "fused", "+ channels last", "+ bfloat16")          # with --quick


def ways_to_measure(quick: bool, compiled: bool) -> dict[str, Way]:
    """The ways of a ladder by name: all, or few; with compiled networks, or without."""
    ways = {name: LADDER[name] for name in QUICK} if quick else LADDER
    return ways | COMPILED if compiled else ways


def measure_bandwidth(rounds: int, device: str) -> float:
    """How many GB a second the machine copies."""
    copying, moved = copy_work(device)
    return moved / min(interleaved({"copy": copying}, rounds, device)["copy"]) / 1e9


def measure_memory(width: int, batch_size: int, device: str) -> float:
    """The peak of memory of a training step that is not the first, in MiB."""
    step = make_step(Way(channels_last=True), width, batch_size, device=device)
    step()
    return peak_memory(step, device) / 2**20


def measure_step(device: str = "cpu", quick: bool = False, compiled: bool = False,
                 widths: tuple[int, ...] = (16, 96), batch_size: int = 64, rounds: int = 6,
                 growth: Mapping[str, tuple[int, ...]] = GROWTH,
                 matrix: int | None = None) -> dict[str, object]:
    """All measurements of this chapter but accuracy, in one run: a record with its provenance
    and the machine's load.

    ``quick`` has fewer ways, two rounds and only the smaller sizes; ``compiled`` adds compiled
    networks to the ladder. ``matrix`` is the side of the matrices that measure the peak, by
    default 2048, and 8192 on CUDA.
    """
    start, load = time.monotonic(), load_of_machine()
    ways = ways_to_measure(quick, compiled)
    rounds = min(rounds, 2) if quick else rounds
    growth = {axis: values[:2] for axis, values in growth.items()} if quick else growth
    found = measure_ladders(widths, ways, batch_size, rounds, device,
                            matrix or (8192 if device.startswith("cuda") else 2048))
    return {"measured": "training step", "device": device, "batch_size": batch_size,
            "rounds": rounds, "quick": quick,
            "ways": {name: asdict(way) for name, way in ways.items()}, **found,
            **fractions(found["ladder"], batch_size),
            "peak_gflops": found["ladder"][str(widths[-1])]["peak_gflops"],
            "bandwidth_gb_per_s": round(measure_bandwidth(max(3, rounds), device), 2),
            "memory_mib": round(measure_memory(widths[0], batch_size, device), 1),
            "memory_kept": platform.libc_ver()[0] == "glibc",
            "layers": measure_layers(widths[-1], batch_size, max(1, rounds // 2), device),
            "growth": measure_growth(growth, max(1, rounds // 2), device),
            "provenance": provenance(device),
            "load": [round(load, 2), round(load_of_machine(), 2)],
            "seconds": round(time.monotonic() - start, 1)}


def step_table(record: Mapping[str, object]) -> str:
    """A record of ``measure_step`` as the text that the command prints."""
    lines = [f"{record['provenance']['hardware']}, threads: "
             f"{record['provenance']['threads']}, {record['device']}; "
             f"load {record['load'][0]} to {record['load'][1]}; {record['seconds']:.0f} s"]
    for width, ladder in record["ladder"].items():
        peaks = ", ".join(f"{name} {peak:.0f}" for name, peak in ladder["peak_gflops"].items())
        lines += [f"width {width}, batch {record['batch_size']}; matrix product in GFLOP/s: "
                  f"{peaks}", f"  {'way':16} {'least ms':>10} {'median':>10} {'GFLOP':>8} "
                  f"{'GFLOP/s':>8} {'of peak':>8} {'x literal':>9}"]
        literal = ladder["ways"]["literal"]["min_ms"]
        lines += [f"  {name:16} {row['min_ms']:10.1f} {row['median_ms']:10.1f} "
                  f"{row['gflop']:8.1f} {row['gflops']:8.0f} {row['peak_fraction']:8.1%} "
                  f"{literal / row['min_ms']:9.2f}" for name, row in ladder["ways"].items()]
    lines.append(f"the literal step does {record['flops_literal_over_fused']} times the "
                 f"arithmetic of the fused one, and takes {record['fused_over_literal']} "
                 "times as long (float32, the narrower width)")
    lines += [f"  {row['axis']:10} {row['value']:>4} {row['precision']:8} "
              f"{row['images_per_s']:9.0f} images/s {row['memory_mib']:8.0f} MiB of tensors"
              for row in record["growth"]]
    return "\n".join(lines)
