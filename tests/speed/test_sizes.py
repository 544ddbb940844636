"""What a step costs at larger images: arithmetic that grows as it must, and a table that says all of it."""

from __future__ import annotations

import pytest

from cdlm.shapes import Measurement
from cdlm.speed.sizes import measure_sizes, sizes_table


def test_a_larger_image_takes_more_arithmetic_and_memory() -> None:
    record = measure_sizes((28, 64), width=4, batch_size=2, rounds=1)
    Measurement.model_validate(record)
    small, large = record["sizes"]["28"], record["sizes"]["64"]
    assert large["gflop"] > 3 * small["gflop"] and large["memory_mib"] > 3 * small["memory_mib"]
    assert record["share"]["28"] == 1 and record["share"]["64"] > 0
    text = sizes_table(record)
    assert "28 pixels" in text and "64 pixels" in text and "(100% of" in text


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="one of 28, 32, 64"):
        measure_sizes((28, 40), width=4, batch_size=2, rounds=1)
