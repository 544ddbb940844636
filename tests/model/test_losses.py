"""The losses of CDLM in all their readings, whom each of them reaches, and that no setting is dead."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Normal
from torch.distributions import kl_divergence as torch_kl

from cdlm.data.batches import DomainBatch
from cdlm.methods.base import draw_noise
from cdlm.methods.cdlm import (
    CDLM,
    CDLMConfig,
    Weights,
    code_divergence,
    column,
    fused_losses,
    image_consistency,
    images_to_read,
    objective,
    reach_table,
    transfer_code,
    transfer_codes,
)
from cdlm.model.codes import Generated, generate
from cdlm.model.networks import Encoded
from cdlm.settings import flat, words_of
from cdlm.training.engine import Trainer

SMALL = CDLMConfig.of(width=4, latent=3, lambda1=0.3, lambda2=0.2, gamma2=0.5)
CHOICES = words_of(CDLMConfig)
MODULATIONS, READINGS = CHOICES["modulation"], CHOICES["kl"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def encoded(seed: int, pairs: int = 4, latent: int = 3) -> Encoded:
    mu, raw, h = torch.randn(3, pairs, latent, generator=generator(seed), dtype=torch.float64)
    return Encoded(mu, (0.5 * raw).exp(), h.sigmoid())


def images(seed: int, pairs: int = 3, channels: int = 2, size: int = 5) -> list[Tensor]:
    """x_s, x_t, and the four generations."""
    return list(torch.rand(6, pairs, channels, size, size, generator=generator(seed), dtype=torch.float64) * 2 - 1)


# The settings


def test_defaults_are_those_that_the_paper_gives() -> None:
    """Section 4, and what the text says in words."""
    c = CDLMConfig()
    assert vars(c.weights) == {"gamma1": 1.0, "gamma2": 0.1, "lambda1": 1e-4, "lambda2": 1e-4, "beta1": 0.1, "beta2": 0.01}
    assert (c.updates.optimizer_phi, c.updates.optimizer_theta) == ("sgd", "adam")      # "SGD with momentum" and "Adam"
    assert (c.losses.modulation, c.losses.consistency) == ("full", "l2")
    assert (c.reach.classifier, c.networks.activation) == ("joint", "sigmoid")
    assert CDLMConfig(Weights(0.5, 0.25)) == CDLMConfig.of(gamma1=0.5, gamma2=0.25)


def test_every_setting_in_words_lists_its_words_with_the_default_among_them() -> None:
    words = {name: value for name, value in flat(CDLMConfig()).items() if isinstance(value, str)}
    assert set(words) == set(CHOICES) | {"tap"}                         # the taps depend on the size: the encoder checks them
    for name, known in CHOICES.items():
        assert words[name] in known and len(set(known)) == len(known)
        for value in known:
            assert flat(CDLMConfig.of(**{name: value}))[name] == value
    with pytest.raises(AttributeError):
        CDLMConfig().losses.kl = "marginal"                             # frozen


# The divergence


def moments_by_hand(own: Encoded, other: Encoded, modulation: str, reading: str, g1: float, g2: float) -> tuple[Tensor, Tensor]:
    """Mean and deviation of one code, written out from Eqs. 1-6, 11 and 15."""
    if reading == "base" or modulation == "none":
        return own.mu, own.sigma
    if modulation == "pm1":
        return own.mu, 0.5 * own.sigma + 0.5 * other.sigma
    if modulation == "pm2":
        return own.mu, other.sigma
    if reading == "conditional":
        return own.mu + g1 * own.sigma * other.h, g2 * own.sigma
    if reading == "marginal":
        mean = other.h.sum(0) / len(other.h)
        variance = (other.h**2).sum(0) / len(other.h) - mean**2
        return own.mu + g1 * own.sigma * mean, (own.sigma**2 * (g1**2 * variance + g2**2)).sqrt()
    return own.mu + g1 * other.mu, g1 * own.sigma * other.sigma


@pytest.mark.parametrize("modulation, reading", list(product(MODULATIONS, READINGS)))
@given(seed=st.integers(0, 2**31), g1=st.floats(0.2, 2), g2=st.floats(0.05, 1))
@settings(max_examples=10, deadline=None)
def test_divergence_is_that_of_torch_distributions(modulation: str, reading: str, seed: int, g1: float, g2: float) -> None:
    own, other = encoded(seed), encoded(seed + 1)
    q = Normal(*moments_by_hand(own, other, modulation, reading, g1, g2))
    expected = torch_kl(q, Normal(torch.zeros(()).double(), 1.0))                          # (batch, latent)
    for reduction, total in (("sum", expected.sum(1).mean()), ("mean", expected.mean())):
        config = CDLMConfig.of(modulation=modulation, kl=reading, gamma1=g1, gamma2=g2, reduction=reduction)
        torch.testing.assert_close(code_divergence(own, other, config), total, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("modulation", MODULATIONS)
def test_given_the_pair_the_divergence_is_that_of_the_codes_that_are_drawn(modulation: str) -> None:
    """Monte Carlo: the mean of log q(z) - log p(z) over codes from ``transfer_code``."""
    own, other, count = encoded(1, pairs=2), encoded(2, pairs=2), 100_000
    config = CDLMConfig.of(modulation=modulation, kl="conditional", gamma1=0.8, gamma2=0.3)
    eps = torch.randn(count, 2, 3, generator=generator(3), dtype=torch.float64)
    z = transfer_code(own, other, eps, modulation, 0.8, 0.3)
    q = Normal(z.mean(0), z.std(0))                                                        # of the samples, not by formula
    ratio = (q.log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(2).mean(1)                  # (count,)
    error = 4 * ratio.std() / count**0.5
    assert abs(ratio.mean() - code_divergence(own, other, config)) < error + 1e-3


def test_marginal_reading_has_the_moments_of_codes_with_the_batch_mixed() -> None:
    own, other, count = encoded(1, pairs=5), encoded(2, pairs=5), 200_000
    eps = torch.randn(count, 1, 3, generator=generator(3), dtype=torch.float64)
    chosen = other.h[torch.randint(5, (count,), generator=generator(4))][:, None]          # (count, 1, latent)
    z = transfer_code(own, other._replace(h=chosen), eps, "full", 0.8, 0.3)                # (count, 5, latent)
    expected = torch_kl(Normal(z.mean(0), z.std(0)), Normal(torch.zeros(()).double(), 1.0)).sum(1).mean()
    found = code_divergence(own, other, CDLMConfig.of(kl="marginal", gamma1=0.8, gamma2=0.3))
    assert abs(found - expected) < 0.01


def test_which_parts_of_the_codes_a_divergence_reaches() -> None:
    """Gradients by mu, sigma and h of both images, under each reading of the full modulation."""
    reached = {}
    for reading in READINGS:
        own, other = (Encoded(*(value.clone().requires_grad_() for value in encoded(seed))) for seed in (1, 2))
        code_divergence(own, other, CDLMConfig.of(kl=reading)).backward()
        reached[reading] = {f"{side}.{name}" for side, e in (("own", own), ("other", other))
                            for name, value in e._asdict().items() if value.grad is not None and value.grad.any()}
    base = {"own.mu", "own.sigma"}
    assert reached == {"base": base, "conditional": base | {"other.h"}, "marginal": base | {"other.h"},
                       "simplified": base | {"other.mu", "other.sigma"}}


def test_a_point_has_no_divergence() -> None:
    """gamma2 = 0 of Table 6: infinite given the pair, finite in the other readings, and harmless where gamma2 is not used."""
    for reading in ("base", "marginal", "simplified"):
        assert code_divergence(encoded(1), encoded(2), CDLMConfig.of(gamma2=0.0, kl=reading)).isfinite()
    with pytest.raises(ValueError, match="infinite"):
        CDLMConfig.of(gamma2=0.0, kl="conditional")
    assert CDLMConfig.of(gamma2=0.0, kl="conditional", modulation="pm1").weights.gamma2 == 0


# Consistency, and what the classifier reads


@pytest.mark.parametrize("reading, reduction", list(product(CHOICES["consistency"], CHOICES["reduction"])))
def test_consistency_by_hand(reading: str, reduction: str) -> None:
    x_s, x_t, hat_st, hat_ts, tilde_s, tilde_t = images(1)
    found = image_consistency(DomainBatch(x_s, torch.zeros(3), x_t), Generated(hat_st, hat_ts, tilde_s, tilde_t),
                              CDLMConfig.of(consistency=reading, reduction=reduction, beta1=0.7, beta2=0.2))
    total = 0.0
    for beta, x, hat, tilde in ((0.7, x_s, hat_st, tilde_s), (0.2, x_t, hat_ts, tilde_t)):
        for one, first, second in zip(x.flatten(1), hat.flatten(1), tilde.flatten(1)):
            per = {"sum": 1, "mean": one.numel()}[reduction]
            if reading == "l2":
                total += beta * float(((first - second) ** 2).sum()) / per / 3
            elif reading == "l1":
                total += beta * float((first - second).abs().sum()) / per / 3
            else:                                                       # likelihoods have no mean over pixels
                likelihoods = [Normal(mean, 0.5**0.5).log_prob(one).sum() for mean in (first, second)]
                total += beta * float(likelihoods[0] - likelihoods[1]) ** 2 / 3
    assert float(found) == pytest.approx(total, rel=1e-9)


def test_printed_consistency_does_not_see_errors_of_equal_size() -> None:
    x_s, x_t, hat_st, hat_ts, *_ = images(2)
    drawn = Generated(hat_st, hat_ts, 2 * x_s - hat_st, 2 * x_t - hat_ts)                  # mirrored at the image itself
    batch = DomainBatch(x_s, torch.zeros(3), x_t)
    assert image_consistency(batch, drawn, CDLMConfig.of(consistency="printed")) < 1e-20
    assert image_consistency(batch, drawn, CDLMConfig.of(consistency="l2")) > 0.1


def test_images_to_read() -> None:
    x_s, _, *four = images(3)
    drawn = Generated(*four)
    for reads, expected in (("real", [x_s]), ("drawn", [drawn.x_hat_st, drawn.x_tilde_s]),
                            ("all", [x_s, drawn.x_hat_st, drawn.x_tilde_s])):
        found = images_to_read(x_s, drawn, CDLMConfig.of(reads=reads))
        assert len(found) == len(expected) and all(a is b for a, b in zip(found, expected))


# Who is reached


PARTS = ("encoder", "decoder", "classifier", "discriminator")


def made(config: CDLMConfig = SMALL, pairs: int = 5) -> tuple[CDLM, DomainBatch, Tensor]:
    """A float64 model of the config, a batch for it, and noise."""
    torch.manual_seed(0)
    model, g = CDLM(config).double(), generator()
    x_s, x_t = torch.rand(2, pairs, 1, 28, 28, generator=g, dtype=torch.float64) * 2 - 1
    return model, DomainBatch(x_s, torch.arange(pairs), x_t), draw_noise(model, pairs, g, torch.float64)


def taken(strength: float = 0.7, **change: object) -> dict[str, Tensor]:
    """The gradient that each part takes in a pass of training, as one vector."""
    model, batch, eps = made(SMALL.but(**change))
    fused_losses(model, batch, eps, strength)[0].backward()
    return {part: torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten()
                             for p in getattr(model, part).parameters()]) for part in PARTS}


def by_hand(*names: str) -> dict[str, Tensor]:
    """Gradient of a sum of losses by every part, from formulas written out here; the adversarial one is not reversed."""
    model, batch, eps = made()
    s, t = model.encoder(batch.x_s), model.encoder(batch.x_t)
    x = generate(model.decoder, transfer_codes(s, t, eps, "full", SMALL.weights.gamma1, SMALL.weights.gamma2))
    def distance(a: Tensor, b: Tensor) -> Tensor:
        return ((a - b) ** 2).flatten(1).sum(1).mean()
    def price(e: Encoded) -> Tensor:
        return torch_kl(Normal(e.mu, e.sigma), Normal(torch.zeros(()).double(), 1.0)).sum(1).mean()
    known, guess = torch.ones(5, dtype=torch.float64), F.binary_cross_entropy_with_logits
    losses = {
        "rec": distance(x.x_hat_st, batch.x_s), "kl": price(s) + price(t),
        "adv": guess(model.discriminator(s.h), known) + guess(model.discriminator(t.h), 0 * known),
        "consistency": 0.1 * distance(x.x_hat_st, x.x_tilde_s) + 0.01 * distance(x.x_hat_ts, x.x_tilde_t),
        "real": F.cross_entropy(model.classifier(batch.x_s), batch.y_s),
        "drawn": sum(F.cross_entropy(model.classifier(image), batch.y_s) for image in (x.x_hat_st, x.x_tilde_s)) / 2,
    }
    sum(losses[name] for name in names).backward()
    return {part: torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten()
                             for p in getattr(model, part).parameters()]) for part in PARTS}


@pytest.fixture(scope="module")
def hand() -> dict[str, dict[str, Tensor]]:
    found = {name: by_hand(name) for name in ("rec", "kl", "adv", "consistency", "real", "drawn")}
    found["task"] = {part: found["real"][part] / 3 + 2 * found["drawn"][part] / 3 for part in PARTS}
    return found


def same(found: Tensor, *expected: Tensor) -> None:
    torch.testing.assert_close(found, sum(expected), rtol=1e-8, atol=1e-10)


def test_by_default_everybody_gets_eqs_21_and_22_and_the_task(hand: dict) -> None:
    found, e, d = taken(), {k: v["encoder"] for k, v in hand.items()}, {k: v["decoder"] for k, v in hand.items()}
    same(found["encoder"], -0.7 * e["adv"], 0.3 * e["kl"], 0.2 * e["rec"], e["task"])
    same(found["decoder"], d["rec"], d["consistency"], d["task"])
    same(found["classifier"], hand["task"]["classifier"])
    same(found["discriminator"], hand["adv"]["discriminator"])
    assert all(vector.norm() > 1e-3 for vector in found.values())


def test_a_decoupled_classifier_trains_nobody_but_itself(hand: dict) -> None:
    found = taken(classifier="decoupled")
    same(found["decoder"], hand["rec"]["decoder"], hand["consistency"]["decoder"])
    same(found["encoder"], -0.7 * hand["adv"]["encoder"], 0.3 * hand["kl"]["encoder"], 0.2 * hand["rec"]["encoder"])
    same(found["classifier"], hand["task"]["classifier"])


@pytest.mark.parametrize("change, kept_from", [
    ({"task_reaches_encoder": False}, ("encoder",)), ({"task_reaches_decoder": False}, ("decoder",)),
    ({"task_reaches_encoder": False, "task_reaches_decoder": False}, ("encoder", "decoder")),
    ({"classifier": "decoupled"}, ("encoder", "decoder"))], ids=str)
def test_the_task_is_kept_from_whom_the_switch_names(change: dict, kept_from: tuple, hand: dict) -> None:
    before, after = taken(), taken(**change)
    for part in PARTS:
        same(after[part], before[part], *([-hand["task"][part]] if part in kept_from else []))
        if part in kept_from:
            assert not torch.allclose(after[part], before[part])


def test_what_the_classifier_reads_decides_whom_it_teaches(hand: dict) -> None:
    """Real images teach the classifier alone; drawn ones everybody who drew; all in thirds."""
    real, drawn, every, decoupled = taken(reads="real"), taken(reads="drawn"), taken(), taken(classifier="decoupled")
    same(real["classifier"], hand["real"]["classifier"])
    same(drawn["classifier"], hand["drawn"]["classifier"])
    for part in ("encoder", "decoder"):
        same(real[part], decoupled[part])
        same(drawn[part], decoupled[part], hand["drawn"][part])
        same(every[part], decoupled[part], 2 / 3 * hand["drawn"][part])


def test_consistency_reaches_the_encoder_if_told(hand: dict) -> None:
    before, after = taken(), taken(consistency_reaches_encoder=True)
    same(after["encoder"], before["encoder"], hand["consistency"]["encoder"])
    for part in ("decoder", "classifier", "discriminator"):
        same(after[part], before[part])
    assert hand["consistency"]["encoder"].norm() > 1e-3


def test_the_lambdas_weigh_for_the_encoder_only(hand: dict) -> None:
    before, after = taken(), taken(lambda1=0.0, lambda2=0.0)
    same(after["encoder"], before["encoder"], -0.3 * hand["kl"]["encoder"], -0.2 * hand["rec"]["encoder"])
    for part in ("decoder", "classifier", "discriminator"):
        same(after[part], before[part])


def test_the_strength_of_the_reversal_weighs_for_the_encoder_only(hand: dict) -> None:
    none, once, twice = (taken(strength=strength) for strength in (0.0, 0.7, 1.4))
    same(once["encoder"] - none["encoder"], -0.7 * hand["adv"]["encoder"])
    same(twice["encoder"] - none["encoder"], -1.4 * hand["adv"]["encoder"])
    for part in ("decoder", "classifier", "discriminator"):
        same(none[part], twice[part])


def test_weights_of_the_consistency(hand: dict) -> None:
    """Both parts reach the decoder, each in proportion to its weight, and nobody else."""
    whole, without, source, target = (taken(beta1=b1, beta2=b2) for b1, b2 in ((0.1, 0.01), (0, 0), (0.1, 0), (0, 0.01)))
    same(without["decoder"], hand["rec"]["decoder"], hand["task"]["decoder"])
    same(source["decoder"] + target["decoder"] - without["decoder"], whole["decoder"])
    assert not torch.allclose(target["decoder"], without["decoder"])
    same(without["encoder"], whole["encoder"])


@pytest.mark.parametrize("modulation, reached", [("full", True), ("pm1", False), ("pm2", False), ("none", False)])
def test_features_enter_a_reconstruction_under_full_modulation_only(modulation: str, reached: bool) -> None:
    """With the adversary and the task off, the head of h hears the reconstruction through z_st, or nothing at all."""
    model, batch, eps = made(SMALL.but(modulation=modulation, reads="real"))
    fused_losses(model, batch, eps, 0.0)[0].backward()
    assert bool(model.encoder.h.weight.grad.abs().sum() > 1e-6) is reached
    assert model.encoder.mu.weight.grad.abs().sum() > 1e-6


@pytest.mark.parametrize("modulation", MODULATIONS)
def test_the_task_reaches_the_features_under_every_modulation(modulation: str) -> None:
    """Through x_tilde_s, which is drawn from h whatever the modulation is."""
    model, batch, eps = made(SMALL.but(modulation=modulation, lambda1=0.0, lambda2=0.0))
    fused_losses(model, batch, eps, 0.0)[0].backward()
    assert model.encoder.h.weight.grad.abs().sum() > 1e-6


SWITCHES = {"classifier": ("joint", "decoupled"), "reads": ("all", "real", "drawn"), "task_reaches_encoder": (True, False),
            "task_reaches_decoder": (True, False), "consistency_reaches_encoder": (False, True)}
LEARNER = {"encoder": "phi", "decoder": "theta", "classifier": "theta_T", "discriminator": "xi"}


@pytest.mark.parametrize("values", list(product(*SWITCHES.values())), ids=lambda v: "-".join(map(str, v)))
def test_what_is_taken_is_what_the_table_says(values: tuple, hand: dict) -> None:
    """Under every combination of the switches: the gradients of the one pass are the table's weights times those by hand."""
    change = dict(zip(SWITCHES, values))
    table, found = reach_table(SMALL.but(**change)), taken(**change)
    assert set(table) == {"adv", "kl", "rec", "consistency", "task"}
    losses = hand | {"task": hand[{"all": "task"}.get(change["reads"], change["reads"])]}
    for part, learner in LEARNER.items():
        terms = [row[learner] * losses[name][part] * (-0.7 if (name, learner) == ("adv", "phi") else 1)
                 for name, row in table.items() if learner in row]
        same(found[part], *terms)
        assert all(term.norm() > 1e-6 for term in terms), "the table has no arrow without a gradient"


def test_an_objective_is_a_weighted_sum_down_a_column() -> None:
    loss = {name: torch.tensor(10.0**k) for k, name in enumerate(("adv", "kl", "rec", "consistency", "task"))}
    table = reach_table(SMALL)
    assert {who: objective(loss, column(table, who)).item() for who in ("phi", "theta", "theta_T", "xi")} == pytest.approx(
        {"phi": 1 + 0.3 * 10 + 0.2 * 100 + 10000, "theta": 100 + 1000 + 10000, "theta_T": 10000, "xi": 1})
    parts = loss | {"rec": {"phi": torch.tensor(3.0), "theta": torch.tensor(5.0)}}
    assert objective(parts, table).item() == pytest.approx(1 + 0.3 * 10 + 0.2 * 3 + 5 + 1000 + 10000)


# No word is dead


def trained(config: CDLMConfig, steps: int = 2) -> dict[str, Tensor]:
    """Weights after some steps of the engine."""
    model, batch, _ = made(config, pairs=6)
    model.prepare(*(((x + 1) * 127.5).to(torch.uint8) for x in (batch.x_s, batch.x_t)))
    model.double()
    trainer, g = Trainer(model.train(), steps), generator(7)
    for _ in range(steps):
        trainer.step(batch, g)
    return {name: value.detach() for name, value in model.named_parameters()}


def differ(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() != other.keys() or any(
        value.shape != other[name].shape or not torch.allclose(value, other[name], rtol=1e-7, atol=1e-9)
        for name, value in one.items())


def test_the_same_settings_train_the_same() -> None:
    """Otherwise the test above would find any field alive."""
    assert not differ(trained(SMALL), trained(SMALL.but()))
    assert not differ(trained(SMALL), trained(SMALL.but(inner_phi=3)))                # only if alternating


@pytest.mark.parametrize("name", CHOICES)
def test_every_word_of_a_setting_means_something_else(name: str) -> None:
    base = SMALL.but(modulation="full")
    found = [trained(base.but(**{name: value})) for value in CHOICES[name]]
    for i, one in enumerate(found):
        assert all(differ(one, other) for other in found[:i])
