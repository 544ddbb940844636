"""Things to turn: the moments of a code, the two terms of the bound, the strength of a reversal.

Generated from book/src/91_widgets.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal

from cdlm.model.gradients import reverse_gradient
from cdlm.model.losses import adversarial_loss, kl_divergence
from cdlm.model.moments import (
    modulated_mean,
    modulated_sigma,
    simplified_mean,
    simplified_mean_error,
    simplified_sigma,
)
from cdlm.plotting import MIXED_COLOR, SOURCE_COLOR, TARGET_COLOR

__all__ = [
    "BOUND_CONTROLS",
    "Game",
    "LOOP_NOISE",
    "LOOP_POINTS",
    "MODULATION_CONTROLS",
    "REVERSAL_CONTROLS",
    "bound",
    "bound_terms",
    "code_density",
    "draw_bound",
    "draw_modulation",
    "draw_reversal",
    "even_cloud",
    "linear_game",
    "loop_log_likelihood",
    "modulation",
    "moments_beside",
    "reversal",
    "turned",
]


# 91_widgets: The moments of a code

def moments_beside(gamma1: float, gamma2: float, sigma_s: float, mu_h: float, sigma_h: float,
                   mu_t: float, sigma_t: float) -> dict[str, float]:
    """Moments of one coordinate of a code with mu_s = 0: by Eqs. 3 and 4, by Eqs. 5 and 6, and
    the exact ones less the short ones.

    ``mu_h`` and ``sigma_h`` >= 0 are of the other domain's feature, ``mu_t`` and
    ``sigma_t`` > 0 what the short forms take for them; ``sigma_s`` > 0 is of the own image.
    """
    s, m, d, m_t, d_t = torch.tensor([sigma_s, mu_h, sigma_h, mu_t, sigma_t],
                                     dtype=torch.float64)
    sigma = modulated_sigma(s, d, gamma1, gamma2)
    short_sigma = simplified_sigma(s, d_t, gamma1)
    found = {"mean": modulated_mean(0 * s, s, m, gamma1), "sigma": sigma,
             "short_mean": simplified_mean(0 * s, m_t, gamma1), "short_sigma": short_sigma,
             "mean_error": simplified_mean_error(m_t, s, m, gamma1),
             # a plain difference, which is a number where both weights are zero, too
             "sigma_error": sigma - short_sigma}
    return {name: value.item() for name, value in found.items()}


def code_density(z: Tensor, shape: str, gamma1: float, gamma2: float, sigma_s: float,
                 mu_h: float, sigma_h: float) -> Tensor:
    """Density of one coordinate of a code at ``z``, any shape, for a feature of one of three
    shapes with mean ``mu_h`` and deviation ``sigma_h``: "normal", "uniform" or "coin".

    Raises ValueError for another shape, and where ``gamma2`` or ``sigma_s`` is not positive.
    """
    if min(gamma2, sigma_s) <= 0:
        raise ValueError("without noise there may be no density; gamma2 and sigma_s are > 0")
    center, spread = gamma1 * sigma_s * mu_h, gamma1 * sigma_s * sigma_h
    noise = Normal(0.0, gamma2 * sigma_s)
    if shape == "coin":
        return sum(noise.log_prob(z - center - side).exp() for side in (-spread, spread)) / 2
    if shape == "uniform" and spread > 0:
        half = math.sqrt(3) * spread
        return (noise.cdf(z - center + half) - noise.cdf(z - center - half)) / (2 * half)
    if shape in ("normal", "uniform"):
        return Normal(center, math.hypot(spread, noise.scale)).log_prob(z).exp()
    raise ValueError(f"no shape is called {shape!r}; there are normal, uniform and coin")


def draw_modulation(gamma1: float = 1.0, gamma2: float = 0.1, sigma_s: float = 1.0,
                    mu_h: float = 0.4, sigma_h: float = 0.2, mu_t: float = 0.4,
                    sigma_t: float = 0.2, shape: str = "normal") -> None:
    """Draw the density of a code, and the normal ones with the exact and the short moments;
    arguments are those of ``moments_beside`` and of ``code_density``."""
    found = moments_beside(gamma1, gamma2, sigma_s, mu_h, sigma_h, mu_t, sigma_t)
    z, least = torch.linspace(-1.5, 4.5, 1201, dtype=torch.float64), 0.02
    noise = max(gamma2, least / sigma_s)
    drawn = code_density(z, shape, gamma1, noise, sigma_s, mu_h, sigma_h)
    _, ax = plt.subplots(figsize=(6.4, 2.6), layout="constrained")
    ax.fill_between(z, drawn, color=MIXED_COLOR, alpha=0.4, label="code")
    for name, mean, sigma, color, style in (
            ("Eqs. 3 and 4", "mean", "sigma", "black", "-"),
            ("Eqs. 5 and 6", "short_mean", "short_sigma", TARGET_COLOR, "--")):
        density = Normal(found[mean], max(found[sigma], least)).log_prob(z).exp()
        ax.plot(z, density, style, color=color,
                label=f"{name}: mean {found[mean]:.2f}, deviation {found[sigma]:.2f}")
    ax.set(xlabel="code", ylabel="density", ylim=(0, 1.15 * float(drawn.max())))
    ax.legend(loc="upper right", fontsize="small")
    plt.show()


# 91_widgets: The two terms of the bound

LOOP_NOISE = 0.15
LOOP_POINTS = {"A": (0.4**2 - 1, 0.4**3 - 0.4), "B": (0.0, 0.0)}


def loop_log_likelihood(z: Tensor, point: str) -> Tensor:
    """log p(x | z) of point "A" or "B" for codes ``z`` of any shape: a loop, and noise."""
    decoded = torch.stack([z**2 - 1, z**3 - z], -1)
    x = torch.tensor(LOOP_POINTS[point], dtype=z.dtype)
    return Normal(decoded, LOOP_NOISE).log_prob(x).sum(-1)


def bound_terms(mean: float, std: float, point: str) -> dict[str, float]:
    """Reconstruction, price, ELBO, gap and evidence in nats of q = N(mean, std^2), where
    ``std`` > 0, for point "A" or "B" of the loop."""
    nodes, weights = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(8))
    likelihood = loop_log_likelihood(mean + std * nodes, point)
    reconstruction = float(weights @ likelihood / weights.sum())
    price = kl_divergence(*torch.tensor([[[mean]], [[std]]], dtype=torch.float64)).item()
    grid = torch.linspace(-5, 5, 4001, dtype=torch.float64)
    joint = loop_log_likelihood(grid, point) + Normal(0, 1).log_prob(grid)
    evidence = float((joint + math.log(10 / 4000)).logsumexp(0))
    elbo = reconstruction - price
    return {"reconstruction": reconstruction, "price": price, "elbo": elbo,
            "gap": evidence - elbo, "evidence": evidence}


def draw_bound(mean: float = 0.0, std: float = 0.5, point: str = "A") -> None:
    """Draw the part of the loop that q = N(mean, std^2) sends its codes to, and q beside the
    posterior of point "A" or "B"."""
    found = bound_terms(mean, std, point)
    _, (plane, codes) = plt.subplots(1, 2, figsize=(7.2, 2.9), layout="constrained")
    for ends, width, color in (((-2, 2), 1, "black"),
                               ((mean - 2 * std, mean + 2 * std), 5, SOURCE_COLOR)):
        z = torch.linspace(*ends, 300)
        plane.plot(z**2 - 1, z**3 - z, color=color, lw=width)
    plane.plot(*LOOP_POINTS[point], "o", color=TARGET_COLOR)
    plane.set(xlim=(-1.7, 2.4), ylim=(-2.2, 2.2), xlabel="$x_1$", ylabel="$x_2$",
              title="thick: drawn from $q$")
    z = torch.linspace(-2.5, 2.5, 801, dtype=torch.float64)
    joint = loop_log_likelihood(z, point) + Normal(0, 1).log_prob(z)
    codes.fill_between(z, (joint - found["evidence"]).exp(), color="0.8", label="posterior")
    codes.plot(z, Normal(mean, std).log_prob(z).exp(), color=SOURCE_COLOR, label="$q$")
    codes.set(xlabel="$z$", ylabel="density", ylim=(0, None),
              title=f"{found['reconstruction']:.2f} $-$ {found['price']:.2f} = "
                    f"{found['elbo']:.2f}, gap {found['gap']:.2f}")
    codes.legend(loc="upper left", fontsize="small")
    plt.show()


# 91_widgets: The strength of a reversal

class Game(NamedTuple):
    """What was, before each of the steps and after the last."""

    phi: Tensor       # (steps + 1, 2): what the encoder adds to the target
    losses: Tensor    # (steps + 1,): the guesser's, in nats
    guessers: Tensor  # (steps + 1, 3): its weights and its bias


def even_cloud(x: float, y: float, count: int = 80) -> Tensor:
    """A flat cloud (count, 2) around (x, y), the same whenever it is made."""
    index = torch.arange(count, dtype=torch.float64)
    radius = (-2 * torch.log(1 - (index + 0.5) / count)).sqrt()
    angle = index * math.pi * (3 - math.sqrt(5))
    return torch.stack([x + radius * angle.cos(), y + 0.6 * radius * angle.sin()], 1)


def linear_game(strength: float, steps: int) -> Game:
    """Play for ``steps`` >= 0 with gradients reversed and multiplied by ``strength``."""
    s, t = even_cloud(0, 0), even_cloud(2, 1.5)
    guesser = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    phi, told = torch.zeros(2, dtype=torch.float64, requires_grad=True), []
    for _ in range(steps + 1):
        moved = reverse_gradient(t + phi, strength)
        loss = adversarial_loss(s @ guesser[:2] + guesser[2], moved @ guesser[:2] + guesser[2])
        told.append((phi.detach().clone(), loss.detach(), guesser.detach().clone()))
        with torch.no_grad():
            for player, slope in zip((guesser, phi),
                                     torch.autograd.grad(loss, (guesser, phi))):
                player -= slope
    return Game(*map(torch.stack, zip(*told)))


def draw_reversal(strength: float = 0.2, step: int = 40) -> None:
    """Draw the clouds after ``step`` of 200 steps, the way of the target's center, the line on
    which the guesser is undecided, and its loss."""
    game, s, t = linear_game(strength, 200), even_cloud(0, 0), even_cloud(2, 1.5)
    _, (plane, losses) = plt.subplots(1, 2, figsize=(7.2, 2.9), layout="constrained")
    plane.scatter(*s.T, s=6, color=SOURCE_COLOR)
    plane.scatter(*(t + game.phi[step]).T, s=6, color=TARGET_COLOR)
    plane.plot(*(torch.tensor([2, 1.5]) + game.phi[:step + 1]).T, color="black")
    w, b = game.guessers[step, :2], game.guessers[step, 2]
    if w.norm() > 0.02:                           # a guesser with no opinion has no line
        foot, along = -b * w / w.norm()**2, torch.stack([-w[1], w[0]]) / w.norm()
        plane.plot(*torch.stack([foot - 20 * along, foot + 20 * along]).T, "--",
                   color=MIXED_COLOR)
    plane.set(xlim=(-4, 6), ylim=(-3, 4.2), xlabel="$h_1$", ylabel="$h_2$")
    losses.plot(game.losses, color=MIXED_COLOR)
    losses.plot(step, game.losses[step], "o", color=TARGET_COLOR)
    losses.axhline(2 * math.log(2), color="gray", ls="--", lw=1)
    losses.set(xlabel="step", ylabel="minus $L_{adv}$ (nats)", ylim=(0, 3))
    plt.show()


# 91_widgets: Sliders over a figure

def turned(draw: Callable[..., None],
           controls: dict[str, tuple[float, float, float, float] | list[str]]) -> Any:
    """The figure that ``draw`` draws, below a slider (lowest, highest, step, start) or a
    choice (a list of words) for each of its arguments; a widget for a notebook to display.

    Without ipywidgets it draws once, warns, and returns None.
    """
    try:
        import ipywidgets
    except ModuleNotFoundError:
        warnings.warn('sliders need ipywidgets: pip install "cdlm[lab]"', stacklevel=3)
        draw(**{name: control[0] if isinstance(control, list) else control[3]
                for name, control in controls.items()})
        return None
    made: dict[str, Any] = {}
    for name, control in controls.items():
        shared = {"description": name, "style": {"description_width": "6em"}}
        if isinstance(control, list):
            made[name] = ipywidgets.RadioButtons(options=control, **shared)
        else:
            low, high, step, start = control
            kind = ipywidgets.IntSlider if isinstance(step, int) else ipywidgets.FloatSlider
            made[name] = kind(start, min=low, max=high, step=step, continuous_update=False,
                              **shared)
    return ipywidgets.interactive(draw, **made)


MODULATION_CONTROLS = {
    "gamma1": (0.0, 2.0, 0.05, 1.0), "gamma2": (0.0, 1.0, 0.05, 0.1),
    "sigma_s": (0.1, 2.0, 0.05, 1.0), "mu_h": (0.0, 1.0, 0.05, 0.4),
    "sigma_h": (0.0, 0.5, 0.05, 0.2), "mu_t": (-1.0, 1.0, 0.05, 0.4),
    "sigma_t": (0.05, 1.0, 0.05, 0.2), "shape": ["normal", "uniform", "coin"]}
BOUND_CONTROLS = {"mean": (-2.0, 2.0, 0.01, 0.0), "std": (0.02, 1.5, 0.01, 0.5),
                  "point": ["A", "B"]}
REVERSAL_CONTROLS = {"strength": (-0.2, 1.2, 0.02, 0.2), "step": (0, 200, 1, 40)}


def modulation() -> Any:
    """Sliders for the moments of a code, as a widget; see ``turned``."""
    return turned(draw_modulation, MODULATION_CONTROLS)


def bound() -> Any:
    """Sliders for the two terms of the bound, as a widget; see ``turned``."""
    return turned(draw_bound, BOUND_CONTROLS)


def reversal() -> Any:
    """Sliders for the strength of a reversal, as a widget; see ``turned``."""
    return turned(draw_reversal, REVERSAL_CONTROLS)
