"""MCD: the discrepancy by hand, three steps that reach whom they should, and what is left at weight 0."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdlm.data.batches import DomainBatch, draw_pair
from cdlm.domains.samples import load_domain
from cdlm.methods.base import Now, Round
from cdlm.methods.mcd import MCD, MCDConfig, classifier_discrepancy, mcd_step
from cdlm.model.networks import TaskClassifier
from cdlm.runs.run import load_run, run
from cdlm.runs.spec import RunSpec
from cdlm.training.engine import Trainer, run_round
from cdlm.training.loop import Loop, train

SMALL = MCDConfig(width=2)
PARTS = ("generator", "heads")
EPS = torch.zeros(0, 6, 0)


def made(config: MCDConfig = SMALL) -> MCD:
    torch.manual_seed(0)
    return MCD(config).double()


def batch() -> DomainBatch:
    x_s, x_t = torch.rand(2, 6, 1, 28, 28, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1
    return DomainBatch(x_s, torch.arange(6), x_t)


def copy_of(part: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in part.parameters()]


# The discrepancy

def test_the_discrepancy_by_hand() -> None:
    """Predictions (1/2, 1/2) and (3/4, 1/4) differ by 1/4 in each of two classes; (0.9, 0.1) twice by nothing."""
    one = torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log()
    other = torch.tensor([[0.75, 0.25], [0.9, 0.1]]).log() + 3.0        # softmax minds no constant
    assert classifier_discrepancy(one, other).item() == pytest.approx((0.25 + 0.25) / 4)
    sure = torch.tensor([[100.0, 0.0, 0.0, 0.0]])
    assert classifier_discrepancy(sure, sure.flip(1)).item() == pytest.approx(2 / 4)
    assert classifier_discrepancy(sure, sure).item() == 0


# Who is reached

def test_each_step_has_its_objective_and_reaches_its_learners() -> None:
    method, pair = made(), batch()
    p1, p2 = (head(method.generator(pair.x_t)).softmax(1) for head in method.heads)
    gap = (p1 - p2).abs().mean().item()
    task = sum(F.cross_entropy(head(method.generator(pair.x_s)), pair.y_s).item() for head in method.heads)
    for step, expected, reached in (("A", task, PARTS), ("B", task - gap, PARTS[1:]), ("C", gap, PARTS)):
        method.zero_grad()
        objective, _ = method(pair, EPS, Now(0.0, step))
        assert objective.item() == pytest.approx(expected, rel=1e-12)
        objective.backward()
        found = tuple(name for name in PARTS if any(p.grad is not None for p in getattr(method, name).parameters()))
        assert found == reached                                         # in C the heads' gradient is there, and nobody's


def test_steps_b_and_c_want_opposite_things_of_one_number() -> None:
    method, pair = made(), batch()
    weights = list(method.heads.parameters())
    up, = torch.autograd.grad(mcd_step(method, pair, "C")[0], weights[:1])
    both, = torch.autograd.grad(mcd_step(method, pair, "B")[0], weights[:1])
    task, = torch.autograd.grad(mcd_step(method, pair, "A")[0], weights[:1])
    torch.testing.assert_close(both, task - up, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("step, learners, moved", [("A", ("G", "C"), PARTS), ("B", ("C",), PARTS[1:]), ("C", ("G",), PARTS[:1])])
def test_a_step_moves_its_learners_and_no_others(step: str, learners: tuple, moved: tuple) -> None:
    method = made()
    before = {name: copy_of(getattr(method, name)) for name in PARTS}
    run_round(Trainer(method, 3), Round(step, learners), batch(), EPS)
    assert Round(step, learners) in method.rounds()
    assert moved == tuple(name for name in PARTS if not all(map(torch.equal, before[name], getattr(method, name).parameters())))


def test_an_iteration_is_the_authors_three_steps() -> None:
    """Written out with their optimizers: Adam for each, of which a step takes those whom it moves."""
    method, by_hand, pair = made(), made(), batch()
    trainer = Trainer(method, steps=4)
    optimizers = [torch.optim.Adam(part.parameters(), lr=2e-4, weight_decay=5e-4) for part in (by_hand.generator, by_hand.heads)]
    opt_g, opt_c = optimizers

    def answers(x: Tensor, still: bool = False) -> list[Tensor]:
        h = by_hand.generator(x)
        return [head(h.detach() if still else h) for head in by_hand.heads]

    def step(objective: Tensor, *movers: torch.optim.Optimizer) -> None:
        by_hand.zero_grad()
        objective.backward()
        for mover in movers:
            mover.step()
    for _ in range(2):
        losses = trainer.iterate(pair, EPS)
        step(sum(F.cross_entropy(y, pair.y_s) for y in answers(pair.x_s)), opt_g, opt_c)
        apart = classifier_discrepancy(*answers(pair.x_t, True))
        step(sum(F.cross_entropy(y, pair.y_s) for y in answers(pair.x_s, True)) - apart, opt_c)
        pulled = classifier_discrepancy(*answers(pair.x_t)).item()
        for _ in range(4):
            step(classifier_discrepancy(*answers(pair.x_t)), opt_g)
    assert losses["pulled"].item() == pytest.approx(pulled, rel=1e-9)
    assert list(losses) == ["task", "gap", "pulled"]
    for (name, p), q in zip(method.named_parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12, msg=name)


# What is left of it

def test_at_weight_0_it_is_source_only_training_with_two_heads() -> None:
    source, target = load_domain("mnist"), load_domain("optdigits")
    torch.manual_seed(0)
    method = MCD(replace(SMALL, weight=0.0))
    torch.manual_seed(0)
    one, other = (TaskClassifier(width=2).layers for _ in range(2))
    adam = torch.optim.Adam([*one.parameters(), *other[-3:].parameters()], lr=2e-4, weight_decay=5e-4)
    train(method, source, target, Loop(steps=4, batch_size=8, seed=2))
    g = torch.Generator().manual_seed(2)
    for _ in range(4):
        pair = draw_pair(source.train, target.train, 8, g)
        torch.randn(0, 8, 0, generator=g)
        h = one[:-3](pair.x_s)
        adam.zero_grad()
        sum(F.cross_entropy(head(h), pair.y_s) for head in (one[-3:], other[-3:])).backward()
        adam.step()
    expected = [*one[:-3].parameters(), *one[-3:].parameters(), *other[-3:].parameters()]
    assert all(torch.equal(p, q) for p, q in zip(method.parameters(), expected, strict=True))


def test_without_step_c_the_generator_learns_from_the_source_alone() -> None:
    """Other target images move the heads and not the generator's first update; with step C they move that."""
    pair = batch()
    other = replace(pair, x_t=-pair.x_t)
    for inner, same in ((0, True), (1, False)):
        found = []
        for given in (pair, other):
            method = made(replace(SMALL, inner=inner))
            Trainer(method, 3).iterate(given, EPS)
            found.append((copy_of(method.generator), copy_of(method.heads)))
        assert all(map(torch.equal, found[0][0], found[1][0])) == same
        assert not all(map(torch.equal, found[0][1], found[1][1]))


def test_step_b_pulls_the_heads_apart_and_step_c_brings_them_together() -> None:
    """On one batch, twenty updates of each: the discrepancy rises clearly, and then falls clearly."""
    method, pair = made(replace(SMALL, lr=2e-3)), batch()
    trainer, gaps = Trainer(method, 3), []
    for step, learner in (("B", "C"), ("C", "G")):
        gaps.append(mcd_step(method, pair, "C")[0].item())
        for _ in range(20):
            run_round(trainer, Round(step, (learner,)), pair, EPS)
    gaps.append(mcd_step(method, pair, "C")[0].item())
    assert gaps[1] > 1.2 * gaps[0] and gaps[2] < 0.8 * gaps[1]


def test_a_run_of_it_is_stored_and_read_back(tmp_path: Path) -> None:
    spec = RunSpec("mcd", "mnist", "optdigits", steps=3, batch_size=4, settings={"width": 2, "inner": 1})
    metrics = run(spec, tmp_path / "run")
    _, method, *_ = load_run(tmp_path / "run")
    assert method.config.inner == 1 and math.isfinite(metrics["log"][-1]["pulled"])
    x = torch.zeros(2, 1, 28, 28)
    assert torch.allclose(method.logits(x), sum(head(method.features(x)) for head in method.heads))
