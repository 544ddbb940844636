"""What a training step costs at larger images, and at which share of the speed.

Generated from book/src/84b_translating.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cdlm.provenance import provenance
from cdlm.speed.arithmetic import count_flops
from cdlm.speed.machine import interleaved, load_of_machine, peak_memory
from cdlm.speed.ways import Way, make_step

__all__ = ["measure_sizes", "sizes_table"]


# 84b_translating: What 64 pixels cost

def measure_sizes(sizes: Sequence[int] = (28, 64), width: int = 16, batch_size: int = 64,
                  rounds: int = 4, device: str = "cpu") -> dict[str, object]:
    """A training step of CDLM at several sizes of images: milliseconds, GFLOP/s, memory of its
    tensors, and the speed as a share of that at the first size.

    Raises ValueError for sizes that there are no networks for.
    """
    way, load = Way(channels_last=True), load_of_machine()
    works = {str(size): make_step(way, width, batch_size, size, device) for size in sizes}
    taken, rows = interleaved(works, rounds, device), {}
    for name, work in works.items():
        flops, least = count_flops(work), min(taken[name])
        rows[name] = {"min_ms": round(1000 * least, 2), "gflop": round(flops / 1e9, 3),
                      "gflops": round(flops / least / 1e9, 2),
                      "memory_mib": round(peak_memory(work, device) / 2**20, 1)}
    first = rows[str(sizes[0])]["gflops"]
    shares = {name: round(row["gflops"] / first, 3) for name, row in rows.items()}
    return {"measured": "step by size", "device": device, "width": width,
            "batch_size": batch_size, "rounds": rounds, "sizes": rows, "share": shares,
            "provenance": provenance(device),
            "load": [round(load, 2), round(load_of_machine(), 2)]}


def sizes_table(record: Mapping[str, object]) -> str:
    """A record of ``measure_sizes`` as the text that the command prints."""
    lines = [f"width {record['width']}, batch {record['batch_size']}, {record['device']}; "
             f"load {record['load'][0]} to {record['load'][1]}"]
    return "\n".join(lines + [
        f"  {size} pixels: {row['min_ms']:.1f} ms, {row['gflop']:.2f} GFLOP, "
        f"{row['gflops']:.1f} GFLOP/s ({record['share'][size]:.0%} of that at the first "
        f"size), {row['memory_mib']:.0f} MiB of tensors"
        for size, row in record["sizes"].items()])
