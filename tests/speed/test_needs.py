"""What a training needs at a width, counted and beside what PyTorch allocates."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cdlm.methods.base import Now
from cdlm.methods.cdlm import CDLM, CDLMConfig
from cdlm.settings import Images
from cdlm.speed.machine import peak_memory
from cdlm.speed.needs import Kept, count_launches, kept_bytes, size_of
from cdlm.speed.ways import Way, make_step, random_batch


def model_of(width: int, size: int = 28) -> CDLM:
    torch.manual_seed(0)
    return CDLM(CDLMConfig.of(width=width), Images(size=size)).train()


def test_what_is_kept_is_counted_once_and_without_parameters() -> None:
    layer, x = nn.Linear(3, 5, bias=False), torch.ones(2, 3)
    kept = Kept((layer.weight,))
    with kept.hooks:
        y = torch.sigmoid(layer(x))     # keeps the input of the product, and the output of the sigmoid
        z = y * y                       # keeps that output again, twice
    assert kept.total == x.nbytes + y.nbytes and z.requires_grad
    z.sum().backward()
    assert layer.weight.grad is not None, "a counted computation can be passed back"


@pytest.mark.parametrize("width", (4, 16))
def test_memory_grows_with_pairs_and_lies_below_what_is_allocated(width: int) -> None:
    few, many = kept_bytes(model_of(width), 4), kept_bytes(model_of(width), 16)
    assert many == pytest.approx(4 * few, rel=0.02)
    model, batch = model_of(width), random_batch(16, 28, torch.Generator().manual_seed(0))
    eps = torch.zeros(model.noise[0], 16, model.noise[1])
    seen = peak_memory(lambda: model(batch, eps, Now(1.0))[0].backward())
    assert many < seen < 2 * many


def test_width_counts_squared_in_parameters_and_once_in_memory() -> None:
    low, high = size_of(model_of(16)), size_of(model_of(64))
    assert 10 < high.flops / low.flops < 16 and 3.5 < high.kept / low.kept < 4
    assert low.memory == 16 * low.parameters + low.kept
    half = size_of(model_of(16), precision="bfloat16")
    assert low.kept / 2 < half.kept < low.kept and half.flops == low.flops


def test_launches_depend_neither_on_width_nor_on_pairs() -> None:
    found = set()
    for width, pairs in ((4, 2), (8, 2), (4, 6)):
        step = make_step(Way(), width, pairs)
        step()
        found.add(count_launches(step))
    assert len(found) == 1


def test_views_are_no_launches() -> None:
    x = torch.ones(4, 6)
    assert count_launches(lambda: x.view(24).t()) == 0
    assert count_launches(lambda: x + x) == 1
