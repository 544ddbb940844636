"""Eqs. 20-22: from the bound to the losses and the updates.

Generated from book/src/54_objective.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import sympy as sp
import torch
from torch import Tensor

from cdlm.theory.equations import equation
from cdlm.theory.joint_bound import X_S, X_T, demand, log_of_normal
from cdlm.theory.symbols import expect, symbols

__all__ = [
    "BETA1",
    "BETA2",
    "ETA1",
    "ETA2",
    "LAMBDA1",
    "LAMBDA2",
    "LOSS_FUNCTIONS",
    "NOISE_VARIANCE",
    "PARAMETERS",
    "PHI",
    "THETA",
    "THETA_T",
    "UPDATE_OBJECTIVES",
    "XI",
    "X_HAT_ST",
    "X_HAT_TS",
    "X_TILDE_S",
    "X_TILDE_T",
    "alternating_updates",
    "descent_rule",
    "encoder_objective",
    "eq_20",
    "eq_20_as_printed",
    "eq_21",
    "eq_22",
    "for_both_domains",
    "log_ratio_at",
    "offered_edges",
    "order_of_updates",
    "simultaneous_updates",
    "slope_at",
]


# 54_objective: Equation 20: two images, or two likelihoods?

X_HAT_ST, X_TILDE_S = symbols(r"\hat{x}_{st} \tilde{x}_{s}", real=True)
X_HAT_TS, X_TILDE_T = symbols(r"\hat{x}_{ts} \tilde{x}_{t}", real=True)
# v: variance of the decoder's Gaussian
BETA1, BETA2, NOISE_VARIANCE = symbols("beta_1 beta_2 v", positive=True)


def log_ratio_at(x: sp.Expr, first: sp.Expr, second: sp.Expr) -> sp.Expr:
    """log N(x; first, v) - log N(x; second, v), for one pixel."""
    deviation = sp.sqrt(NOISE_VARIANCE)
    return sp.expand(log_of_normal(x, first, deviation) - log_of_normal(x, second, deviation))


def for_both_domains(one: sp.Expr) -> sp.Expr:
    """beta1 times an expression of the source's pixels plus beta2 times the same of the
    target's."""
    other = {X_HAT_ST: X_HAT_TS, X_TILDE_S: X_TILDE_T, X_S: X_T}
    return BETA1 * one + BETA2 * one.subs(other, simultaneous=True)


@equation(20, kind="definition", verdict="misprint, corrected", note=(
    "Printed is a squared difference of two log-likelihoods, which is zero for different "
    "images with equal errors; the text says squared error between two images, "
    "which is the divergence between the two Gaussians that the decoder draws."),
          api=("cdlm.model.losses.consistency_loss", "cdlm.model.losses.consistency_l1",
               "cdlm.model.losses.consistency_as_printed"))
def eq_20() -> sp.Eq:
    """Consistency of two generations.

    The divergence between the decoder's two Gaussians, by integration over a pixel.
    """
    x = sp.Symbol("x", real=True)
    divergence = expect(log_ratio_at(x, X_HAT_ST, X_TILDE_S), x, X_HAT_ST,
                        sp.sqrt(NOISE_VARIANCE))
    # variance 1/2, as in Eq. 18
    distance = sp.factor(divergence.subs(NOISE_VARIANCE, sp.Rational(1, 2)))
    demand(sp.expand(distance - (X_HAT_ST - X_TILDE_S) ** 2) == 0,
           "the divergence is the squared distance")
    return sp.Eq(sp.Symbol("L_c"), for_both_domains(distance))


@functools.cache
def eq_20_as_printed() -> sp.Eq:
    """Eq. 20 with its difference of log-likelihoods squared, the observed image put into both,
    for one pixel."""
    difference = sp.factor(log_ratio_at(X_S, X_HAT_ST, X_TILDE_S))
    return sp.Eq(sp.Symbol("L_c"), for_both_domains(difference**2))


# 54_objective: Equation 21: what the encoder descends

PHI, THETA, THETA_T, XI = symbols(r"\phi \theta \theta_{T} \Xi", real=True)
LOSS_FUNCTIONS = {
    "adv": sp.Function("L_{adv}")(PHI, XI),
    "kl": sp.Function("L_{KL}")(PHI),
    "rec": sp.Function("L_{Rec}")(PHI, THETA),
    "consistency": sp.Function("L_c")(PHI, THETA),
    "task": sp.Function("L_{task}")(PHI, THETA, THETA_T),
}
LAMBDA1, LAMBDA2, ETA1, ETA2 = symbols("lambda_1 lambda_2 eta_1 eta_2", positive=True)
UPDATE_OBJECTIVES = {               # of Eqs. 21 and 22
    PHI: (LOSS_FUNCTIONS["adv"] + LAMBDA1 * LOSS_FUNCTIONS["kl"]
          + LAMBDA2 * LOSS_FUNCTIONS["rec"]),
    THETA: LOSS_FUNCTIONS["rec"] + LOSS_FUNCTIONS["consistency"],
}


def descent_rule(parameter: sp.Symbol, rate: sp.Symbol) -> sp.Eq:
    """The update of a parameter, checked to lower its own objective to first order in the
    rate."""
    objective = UPDATE_OBJECTIVES[parameter]
    slope = sp.diff(objective, parameter)
    after = parameter - rate * slope
    change = objective.subs(parameter, after).diff(rate).subs(rate, 0).doit()
    demand(sp.expand(change + slope**2) == 0,
           "the objective falls by rate times the squared slope")
    return sp.Eq(sp.Symbol(sp.latex(parameter) + r"^{\text{new}}"), after)


@equation(21, kind="algorithm", verdict="exact under stated assumptions", note=(
    "The gradient is with respect to phi, and L_KL and L_Rec are costs. "
    "The lambdas multiply KL and reconstruction, though the text says discriminator loss and "
    "reconstruction; the task loss, which the text asks for, is added. In cdlm the gradient "
    "of L_adv arrives through a reversal layer and with its strength, at most 0.15 by "
    "default, where Eq. 21 has the weight 1."),
          api=("cdlm.methods.cdlm.objectives", "cdlm.model.gradients.set_gradients",
               "cdlm.methods.cdlm.fused_losses", "cdlm.theory.updates.encoder_objective"))
def eq_21() -> sp.Eq:
    """Update of the encoder.

    To first order it lowers the encoder's own objective by the rate times the squared slope.
    """
    return descent_rule(PHI, ETA1)


@equation(22, kind="algorithm", verdict="exact under stated assumptions",
          note=("The gradient is with respect to theta, and L_Rec is a cost. The task loss, "
                "which the text asks for, is added."),
          api=("cdlm.methods.cdlm.objectives", "cdlm.model.gradients.set_gradients",
               "cdlm.methods.cdlm.fused_losses"))
def eq_22() -> sp.Eq:
    """Update of the decoder.

    To first order it lowers the decoder's own objective by the rate times the squared slope.
    """
    return descent_rule(THETA, ETA2)


# 54_objective: Equation 22: what the decoder descends

# of whom, by the name of the learner
PARAMETERS = {"xi": XI, "phi": PHI, "theta": THETA, "theta_T": THETA_T}


def offered_edges() -> list[tuple[str, str]]:
    """Each loss with each learner whose parameters it depends on."""
    return [(name, learner) for name, loss in LOSS_FUNCTIONS.items()
            for learner, parameter in PARAMETERS.items() if loss.has(parameter)]


# 54_objective: The weights, by the formula and by the text

def encoder_objective(adv: Tensor, kl: Tensor, rec: Tensor, lambda1: float = 1e-4,
                      lambda2: float = 1e-4, reading: str = "formula") -> Tensor:
    """What phi descends in Eq. 21, without the task loss: weights where the formula has them,
    or where the "text" says.

    ``adv``, ``kl`` and ``rec`` are costs, scalars. Raises ValueError for another reading.
    """
    if reading == "formula":
        return adv + lambda1 * kl + lambda2 * rec
    if reading == "text":
        return lambda1 * adv + kl + lambda2 * rec
    raise ValueError(f'reading is {reading!r}; it must be "formula" or "text"')


# 54_objective: In which order

def slope_at(objective: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """Gradient of a scalar function at a tensor."""
    at = at.detach().requires_grad_()
    return torch.autograd.grad(objective(at), at)[0]


def simultaneous_updates(
    phi: Tensor, theta: Tensor, for_phi: Callable[[Tensor, Tensor], Tensor],
    for_theta: Callable[[Tensor, Tensor], Tensor], eta1: float, eta2: float
) -> tuple[Tensor, Tensor]:
    """Eqs. 21 and 22 at once, both from the old parameters.

    The objectives are scalar functions of (phi, theta).
    """
    return (phi - eta1 * slope_at(lambda value: for_phi(value, theta), phi),
            theta - eta2 * slope_at(lambda value: for_theta(phi, value), theta))


def alternating_updates(
    phi: Tensor, theta: Tensor, for_phi: Callable[[Tensor, Tensor], Tensor],
    for_theta: Callable[[Tensor, Tensor], Tensor], eta1: float, eta2: float, n_phi: int = 1,
    n_theta: int = 1
) -> tuple[Tensor, Tensor]:
    """The two inner loops of Algorithm 1: ``n_phi`` times Eq. 21, then ``n_theta`` times
    Eq. 22, losses always new."""
    for _ in range(n_phi):
        phi = phi - eta1 * slope_at(lambda value: for_phi(value, theta), phi)
    for _ in range(n_theta):
        theta = theta - eta2 * slope_at(lambda value, phi=phi: for_theta(phi, value), theta)
    return phi, theta


@functools.cache
def order_of_updates() -> sp.Eq:
    """Leading term of theta after alternating less theta after simultaneous updates, one of
    each."""
    new_phi, old_slope = eq_21().rhs, sp.diff(UPDATE_OBJECTIVES[THETA], THETA)
    change = -ETA2 * (old_slope.subs(PHI, new_phi) - old_slope)
    demand(change.subs(ETA1, 0).doit() == 0,
           "without a step of the encoder there is no difference")
    leading = ETA1 * change.diff(ETA1).subs(ETA1, 0).doit()
    product = ETA1 * ETA2 * sp.diff(UPDATE_OBJECTIVES[THETA], THETA, PHI) * sp.diff(
        UPDATE_OBJECTIVES[PHI], PHI)
    demand(sp.expand(leading - product) == 0,
           "the difference is a mixed derivative times a slope")
    return sp.Eq(sp.Symbol(r"\theta^{\text{alt}} - \theta^{\text{sim}}"), product)
