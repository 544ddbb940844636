"""Eq. 23: the bound on the target error, and the two divergences it can be written with."""

from __future__ import annotations

from itertools import product

import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cdlm.theory import bound
from cdlm.theory.bound import (
    disagreement,
    eq_23,
    eq_23_printed,
    h_divergence,
    hdh_divergence,
    ideal_joint_error,
    target_error_bound,
)

seeds = st.integers(0, 10_000)
CORNERS = torch.tensor(list(product((0, 1), repeat=2)))
X1, X2 = CORNERS.T
LABELINGS = torch.tensor(list(product((0, 1), repeat=4)))
QUARTERS = torch.tensor([p for p in product(range(5), repeat=4) if sum(p) == 4]).double() / 4
THRESHOLDS = (torch.arange(4) >= torch.arange(5)[:, None]).long()
ONE_FEATURE = torch.stack([X1, X2, 1 - X1, 1 - X2, 0 * X1, 0 * X1 + 1])


def world(seed: int, rules: int = 5, points: int = 6, batch: tuple[int, ...] = ()) -> tuple[torch.Tensor, ...]:
    """Random rules (rules, points), and labels and probabilities of both domains, (*batch, points) each."""
    generator = torch.Generator().manual_seed(seed)
    hypotheses = torch.randint(2, (rules, points), generator=generator)
    y_s, y_t = torch.randint(2, (2, *batch, points), generator=generator)
    p_s, p_t = (3 * torch.randn(2, *batch, points, generator=generator, dtype=torch.float64)).softmax(-1)
    return hypotheses, y_s, y_t, p_s, p_t


def apart(f, g, p) -> float:
    """Probability that two labelings differ, point by point."""
    return sum(float(mass) for a, b, mass in zip(f, g, p, strict=True) if int(a) != int(b))


def by_hand(hypotheses, y_s, y_t, p_s, p_t) -> dict[str, float]:
    """The divergences and lambda of one world, with loops."""
    yes = [abs(sum(float(s - t) for h, s, t in zip(f, p_s, p_t) if h)) for f in hypotheses]
    pairs = [abs(apart(f, g, p_s) - apart(f, g, p_t)) for f in hypotheses for g in hypotheses]
    joint = [apart(f, y_s, p_s) + apart(f, y_t, p_t) for f in hypotheses]
    return {"h": 2 * max(yes), "hdh": 2 * max(pairs), "lambda": min(joint), "ideal": joint.index(min(joint))}


# The statement


@pytest.mark.equation(23, check="derivation")
def test_what_the_bound_leaves_over_is_never_negative():
    """Right minus left side, in masses of the eight kinds of points: what is not the choice of the pair is >= 0."""
    q = {d: {k: sp.Symbol(f"{d}{k}", nonnegative=True) for k in product((0, 1), repeat=3)} for d in "st"}

    def differ(domain, one, other):
        return sum(mass * abs(kind[one] - kind[other]) for kind, mass in q[domain].items())

    values = {bound.error_s: differ("s", 0, 2), bound.error_t: differ("t", 0, 2),
              bound.error_s_ideal: differ("s", 1, 2), bound.error_t_ideal: differ("t", 1, 2)}  # fmt: skip
    statement = eq_23()
    assert isinstance(statement, sp.Le)
    over = sp.expand((statement.rhs - statement.lhs).subs(values))
    pair = differ("t", 0, 1) - differ("s", 0, 1)  # at most half of the divergence, by its definition
    rest = sp.Poly(sp.expand(over - bound.d_HDH / 2 + pair), *q["s"].values(), *q["t"].values())
    assert all(coefficient >= 0 for coefficient in rest.coeffs())
    assert over.coeff(bound.d_HDH) == sp.Rational(1, 2)
    tight = {mass: 0 for masses in q.values() for mass in masses.values()} | {q["t"][0, 1, 1]: 1, q["s"][0, 0, 0]: 1}
    assert over.subs(tight).subs(bound.d_HDH, 2) == 0  # and no smaller factor than one half would do


@pytest.mark.equation(23, check="derivation")
def test_triangle_inequality_of_disagreements_in_all_cases():
    """For labels of two and of four classes: differing is at most differing from a third one, added."""
    for a, b, c in product(range(4), repeat=3):
        assert (a != c) <= (a != b) + (b != c)
    x = sp.symbols("a b c")
    for kind in product((0, 1), repeat=3):
        a, b, c = kind
        squares = (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 2 - (x[0] - x[2]) ** 2
        over = squares.subs(dict(zip(x, kind)))
        assert over == 2 * ((a != b) and (b != c)) == (a != b) + (b != c) - (a != c)
    mass = bound.masses("s")
    expected = 2 * (mass[0, 0, 1] + mass[1, 1, 0])
    assert sp.expand(bound.triangle_slack(bound.FIRST, bound.IDEAL, bound.LABEL, mass) - expected) == 0


@pytest.mark.equation(23, check="derivation")
def test_the_three_steps_point_the_same_way():
    """Each says "at most", and begins where the one before it has left off; else their sum would say nothing."""
    first, second, third = steps = bound.bound_steps()
    assert all(isinstance(step, sp.Le) for step in steps)
    assert first == sp.Le(bound.error_t, bound.apart_t + bound.error_t_ideal)
    assert second == sp.Le(bound.apart_t, bound.apart_s + bound.d_HDH / 2)
    assert third == sp.Le(bound.apart_s, bound.error_s + bound.error_s_ideal)


@pytest.mark.equation(23, check="derivation")
def test_the_printed_form_has_another_divergence():
    """It differs from the theorem in the last term alone."""
    difference = sp.expand(eq_23_printed().rhs - eq_23().rhs)
    assert difference == bound.d_H - bound.d_HDH / 2
    assert eq_23_printed().lhs == eq_23().lhs


@pytest.mark.equation(23, check="derivation")
def test_a_failing_triangle_would_be_noticed(monkeypatch):
    monkeypatch.setattr(bound, "triangle_slack", lambda *labels: sp.Symbol("q", nonnegative=True) - 1)
    with pytest.raises(ArithmeticError, match="fails"):
        bound.bound_steps()


# The functions


@pytest.mark.equation(23, check="formula")
@given(seeds)
@settings(max_examples=25, deadline=None)
def test_functions_agree_with_the_statement(seed):
    """Every term with loops, and the bound by substitution into the symbolic form."""
    hypotheses, y_s, y_t, p_s, p_t = arguments = world(seed)
    terms = by_hand(*arguments)
    torch.testing.assert_close(h_divergence(hypotheses, p_s, p_t).item(), terms["h"], rtol=0, atol=1e-12)
    torch.testing.assert_close(hdh_divergence(hypotheses, p_s, p_t).item(), terms["hdh"], rtol=0, atol=1e-12)
    torch.testing.assert_close(ideal_joint_error(*arguments).item(), terms["lambda"], rtol=0, atol=1e-12)
    ideal = hypotheses[terms["ideal"]]
    values = {bound.error_s_ideal: apart(ideal, y_s, p_s), bound.error_t_ideal: apart(ideal, y_t, p_t),
              bound.d_HDH: terms["hdh"], bound.d_H: terms["h"]}  # fmt: skip
    for statement, name in ((eq_23(), "hdh"), (eq_23_printed(), "h")):
        computed = target_error_bound(*arguments, divergence=name)
        for f, value in zip(hypotheses, computed, strict=True):
            expected = statement.rhs.subs(values | {bound.error_s: apart(f, y_s, p_s)})
            assert abs(float(expected) - value.item()) < 1e-12
    torch.testing.assert_close(target_error_bound(*arguments), target_error_bound(*arguments, "hdh"))


@pytest.mark.equation(23, check="formula")
@pytest.mark.parametrize("batch", [(4,), (2, 3)])
def test_batches_are_many_worlds(batch):
    arguments = world(7, rules=5, points=6, batch=batch)
    hypotheses, *rest = arguments
    together = target_error_bound(*arguments)
    assert together.shape == (*batch, 5)
    for place in product(*map(range, batch)):
        alone = [value[place] for value in rest]
        torch.testing.assert_close(together[place], target_error_bound(hypotheses, *alone), rtol=0, atol=1e-12)
        for divergence in (h_divergence, hdh_divergence):
            both = divergence(hypotheses, *rest[2:])[place], divergence(hypotheses, *alone[2:])
            torch.testing.assert_close(*both, rtol=0, atol=1e-12)
        torch.testing.assert_close(ideal_joint_error(*arguments)[place], ideal_joint_error(hypotheses, *alone))


@pytest.mark.equation(23, check="formula")
def test_disagreement_by_hand():
    f, g, p = torch.tensor([[0, 1, 2], [2, 2, 2]]), torch.tensor([0, 2, 2]), torch.tensor([0.5, 0.3, 0.2]).double()
    torch.testing.assert_close(disagreement(f, g, p), torch.tensor([0.3, 0.5]).double())
    torch.testing.assert_close(disagreement(f, f, p), torch.zeros(2).double())


@pytest.mark.equation(23, check="gradient")
def test_errors_are_linear_in_the_probabilities():
    """The slope of the bound in p_s, at a rule that is not the ideal one and with one divergence at its maximum."""
    hypotheses, y_s, y_t, p_s, p_t = world(3)
    p_s.requires_grad_()
    (slope,) = torch.autograd.grad(disagreement(hypotheses[0], y_s, p_s), p_s)
    assert torch.equal(slope, (hypotheses[0] != y_s).double())
    step = 1e-6 * torch.tensor([1, -1, 0, 0, 2, -2]).double()
    value = target_error_bound(hypotheses, y_s, y_t, p_s, p_t)[1]
    (slope,) = torch.autograd.grad(value, p_s)
    moved = target_error_bound(hypotheses, y_s, y_t, (p_s + step).detach(), p_t)[1]
    assert abs((moved - value).item() - (slope * step).sum().item()) < 1e-12


@pytest.mark.equation(23, check="extremes")
def test_limits():
    """Equal domains, domains without a common point, and single precision."""
    hypotheses, y_s, y_t, p_s, p_t = world(1)
    assert h_divergence(hypotheses, p_s, p_s) == hdh_divergence(hypotheses, p_s, p_s) == 0
    left, right = torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0.25, 0.75]]).double()
    assert h_divergence(THRESHOLDS, left, right) == hdh_divergence(THRESHOLDS, left, right) == 2
    single = target_error_bound(hypotheses, y_s, y_t, p_s.float(), p_t.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), target_error_bound(hypotheses, y_s, y_t, p_s, p_t), rtol=0, atol=1e-6)
    boolean = target_error_bound(hypotheses.bool(), y_s.bool(), y_t.bool(), p_s, p_t)
    torch.testing.assert_close(boolean, target_error_bound(hypotheses, y_s, y_t, p_s, p_t))


@pytest.mark.equation(23, check="simulation")
@given(seeds)
@settings(max_examples=30, deadline=None)
def test_the_theorem_holds_in_random_worlds(seed):
    hypotheses, y_s, y_t, p_s, p_t = arguments = world(seed, rules=4, points=5, batch=(20,))
    errors = disagreement(hypotheses, y_t[:, None], p_t[:, None])
    assert (errors <= target_error_bound(*arguments) + 1e-12).all()


@pytest.mark.equation(23, check="simulation")
@pytest.mark.parametrize("rules, failures", [(THRESHOLDS, 0), (ONE_FEATURE, 3968)], ids=["thresholds", "one feature"])
def test_all_worlds_on_four_points(rules, failures):
    """All distributions in quarters and all labelings: the theorem never fails, the printed form for one class."""
    p_s, p_t = QUARTERS[:, None, None, None], QUARTERS[:, None, None]
    y_s, y_t = LABELINGS[:, None], LABELINGS
    errors = disagreement(rules, y_t[:, None], p_t[..., None, :])
    assert (errors <= target_error_bound(rules, y_s, y_t, p_s, p_t)).all()
    printed = target_error_bound(rules, y_s, y_t, p_s, p_t, divergence="h")
    assert (errors > printed).sum() == failures


@pytest.mark.equation(23, check="simulation")
def test_the_worst_case_of_the_printed_form():
    """Two features that agree in the source and disagree in the target: nothing is promised, or everything."""
    p_s, p_t = (X1 == X2).double() / 2, (X1 != X2).double() / 2
    arguments = ONE_FEATURE, X2, X2, p_s, p_t
    assert disagreement(X1, X2, p_s) == ideal_joint_error(*arguments) == h_divergence(ONE_FEATURE, p_s, p_t) == 0
    assert disagreement(X1, X2, p_t) == target_error_bound(*arguments)[0] == 1
    assert target_error_bound(*arguments, divergence="h")[0] == 0


@pytest.mark.equation(23, check="simulation")
def test_classes_for_which_the_printed_form_holds():
    """Closed under exclusive or: both divergences are one. Nested: half of the one is at most the other."""
    p_s, p_t = QUARTERS[:, None], QUARTERS
    assert torch.equal(hdh_divergence(LABELINGS, p_s, p_t), h_divergence(LABELINGS, p_s, p_t))
    for rules in (THRESHOLDS, torch.cat([THRESHOLDS, 1 - THRESHOLDS])):
        assert (hdh_divergence(rules, p_s, p_t) / 2 <= h_divergence(rules, p_s, p_t)).all()
        assert (hdh_divergence(rules, p_s, p_t) / 2 > h_divergence(rules, p_s, p_t) / 2).any()


@pytest.mark.equation(23, check="simulation")
def test_disagreement_is_what_samples_estimate():
    hypotheses, y_s, _, p_s, _ = world(5)
    drawn = torch.multinomial(p_s, 200_000, replacement=True, generator=torch.Generator().manual_seed(0))
    shares = (hypotheses != y_s)[:, drawn].double().mean(1)
    assert ((shares - disagreement(hypotheses, y_s, p_s)).abs() < 5 * 0.5 / 200_000**0.5).all()


@pytest.mark.parametrize("divergence", [h_divergence, hdh_divergence])
def test_rules_of_more_classes_are_refused(divergence):
    p = torch.full((3,), 1 / 3)
    for rules in ([[0, 1, 2]], [[0, 1, -1]], [[0.0, 0.5, 1.0]]):
        with pytest.raises(ValueError, match="two classes"):
            divergence(torch.tensor(rules), p, p)


def test_unknown_divergence_is_refused():
    with pytest.raises(ValueError, match='"hdh" or "h"'):
        target_error_bound(*world(0), divergence="H")
