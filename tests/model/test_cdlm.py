"""The whole model: gradient reversal, losses, who reaches whom, limits and identities, training."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from cdlm.data.batches import DomainBatch
from cdlm.methods.cdlm import CDLM, CDLMConfig, cdlm_losses, objectives
from cdlm.model.codes import cross_codes, generate
from cdlm.model.gradients import reversal_strength, reverse_gradient, set_gradients
from cdlm.model.losses import adversarial_loss, consistency_loss, reconstruction_loss
from cdlm.model.modulation import modulate
from cdlm.model.networks import Encoded
from cdlm.training.engine import Trainer
from cdlm.training.loop import Loop, train
from cdlm.training.watch import TrainingError

SMALL = CDLMConfig.of(width=16, latent=4)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def batch() -> DomainBatch:
    g = generator()
    x_s, x_t = torch.rand(2, 6, 1, 28, 28, generator=g) * 2 - 1
    return DomainBatch(x_s, torch.arange(6), x_t)


@pytest.fixture
def model() -> CDLM:
    torch.manual_seed(0)
    return CDLM(SMALL).double()


def all_losses(model: CDLM, batch: DomainBatch, strength: float = 1.0, seed: int = 0) -> dict[str, torch.Tensor]:
    batch = DomainBatch(batch.x_s.double(), batch.y_s, batch.x_t.double())
    s, t = model.encoder(batch.x_s), model.encoder(batch.x_t)
    c = model.config
    images = generate(model.decoder, cross_codes(s, t, generator(seed), c.weights.gamma1, c.weights.gamma2))
    return cdlm_losses(model, batch, s, t, images, strength)


def reached(loss: torch.Tensor, part: torch.nn.Module) -> bool:
    gradients = torch.autograd.grad(loss, list(part.parameters()), retain_graph=True, allow_unused=True)
    return any(g is not None and bool(g.any()) for g in gradients)


@given(st.floats(0, 5), st.integers(0, 2**31))
def test_reversal_is_identity_forward_and_negative_backward(strength: float, seed: int) -> None:
    x = torch.randn(7, generator=generator(seed), dtype=torch.float64, requires_grad=True)
    y = reverse_gradient(x, strength)
    assert torch.equal(y, x)
    expected, = torch.autograd.grad(x.pow(3).sum(), x)
    got, = torch.autograd.grad(y.pow(3).sum(), x)
    assert torch.allclose(got, -strength * expected, rtol=1e-14, atol=0)


def test_warm_up_starts_at_zero_grows_and_ends_below_its_maximum() -> None:
    values = [reversal_strength(k / 10, 0.5) for k in range(11)]
    assert values[0] == 0 and values == sorted(values) and 0.499 < values[-1] < 0.5


@given(st.integers(0, 2**31))
def test_adversarial_loss_is_the_cross_entropy_of_the_domain(seed: int) -> None:
    logits_s, logits_t = 5 * torch.randn(2, 9, generator=generator(seed), dtype=torch.float64)
    by_library = (F.binary_cross_entropy_with_logits(logits_s, torch.ones_like(logits_s))
                  + F.binary_cross_entropy_with_logits(logits_t, torch.zeros_like(logits_t)))
    assert torch.allclose(adversarial_loss(logits_s, logits_t), by_library, rtol=1e-12)
    eq19 = logits_s.sigmoid().log().mean() + (1 - logits_t.sigmoid()).log().mean()
    assert torch.allclose(adversarial_loss(logits_s, logits_t), -eq19, rtol=1e-9)


def test_adversarial_loss_is_stable_for_huge_logits() -> None:
    assert adversarial_loss(torch.tensor([-1e4]), torch.tensor([1e4])).item() == pytest.approx(2e4)


def test_consistency_is_the_weighted_sum_of_two_squared_errors() -> None:
    a, b, c, d = torch.rand(4, 3, 1, 28, 28, generator=generator())
    assert consistency_loss(a, b, c, d, 0.3, 0.0) == 0.3 * reconstruction_loss(a, b)
    assert consistency_loss(a, b, c, d, 0.0, 0.7) == 0.7 * reconstruction_loss(c, d)
    mean = consistency_loss(a, b, c, d, reduction="mean")
    assert torch.isclose(consistency_loss(a, b, c, d) / 784, mean)


def test_codes_are_the_modulations_of_equations_1_and_2() -> None:
    s, t = (Encoded(*torch.rand(3, 5, 4, generator=generator(k), dtype=torch.float64)) for k in (1, 2))
    codes, g = cross_codes(s, t, generator(), 0.8, 0.2), generator()
    eps = [torch.randn(5, 4, generator=g, dtype=torch.float64) for _ in range(4)]
    assert torch.equal(codes.z_st, modulate(s.mu, s.sigma, t.h, eps[0], 0.8, 0.2))
    assert torch.equal(codes.z_ts, modulate(t.mu, t.sigma, s.h, eps[1], 0.8, 0.2))
    assert torch.allclose(codes.u_s, 0.8 * s.h + 0.2 * eps[2])
    assert torch.allclose(codes.u_t, 0.8 * t.h + 0.2 * eps[3])


REACH = {"rec": {"encoder", "decoder"}, "kl": {"encoder"}, "adv": {"encoder", "discriminator"},
         "consistency": {"encoder", "decoder"}, "task": {"encoder", "decoder", "classifier"}}


@pytest.mark.parametrize("name", REACH)
def test_which_loss_depends_on_which_part(model: CDLM, batch: DomainBatch, name: str) -> None:
    loss = all_losses(model, batch)[name]
    parts = {"encoder", "decoder", "classifier", "discriminator"}
    assert {part for part in parts if reached(loss, getattr(model, part))} == REACH[name]


def test_objectives_are_equations_21_and_22_term_by_term(model: CDLM, batch: DomainBatch) -> None:
    loss, c = all_losses(model, batch), CDLMConfig.of(lambda1=2.0, lambda2=3.0)
    phi, theta = objectives(loss, c)
    assert torch.isclose(phi, loss["adv"] + 2 * loss["kl"] + 3 * loss["rec"] + loss["task"])
    assert torch.isclose(theta, loss["rec"] + loss["consistency"] + loss["task"])
    detached, _ = objectives(loss, CDLMConfig.of(task_reaches_encoder=False))
    assert torch.isclose(detached, loss["adv"] + 1e-4 * loss["kl"] + 1e-4 * loss["rec"])


def test_consistency_never_reaches_the_encoder_in_a_step(batch: DomainBatch) -> None:
    def encoder_after_step(beta1: float, beta2: float) -> dict:
        torch.manual_seed(0)
        model = CDLM(CDLMConfig.of(latent=4, beta1=beta1, beta2=beta2))
        trainer = Trainer(model, 10)
        trainer.step(batch, generator())
        return model.encoder.state_dict()
    with_it, without = encoder_after_step(0.5, 0.5), encoder_after_step(0.0, 0.0)
    assert all(torch.equal(with_it[k], without[k]) for k in with_it)


def test_a_step_moves_every_part_and_the_encoder_against_the_discriminator(model: CDLM, batch: DomainBatch) -> None:
    weight = model.encoder.h.weight
    reversed_, = torch.autograd.grad(all_losses(model, batch, strength=0.7)["adv"], weight)
    s, t = model.encoder(batch.x_s.double()), model.encoder(batch.x_t.double())
    plain, = torch.autograd.grad(adversarial_loss(model.discriminator(s.h), model.discriminator(t.h)), weight)
    assert plain.any() and torch.allclose(reversed_, -0.7 * plain, rtol=1e-10)


def test_modulation_off_is_the_plain_vae_path(model: CDLM, batch: DomainBatch) -> None:
    """At gamma1 = 0, gamma2 = 1 the target does not enter the source's reconstruction and divergence."""
    plain = CDLM(CDLMConfig.of(latent=4, gamma1=0.0, gamma2=1.0)).double()
    plain.load_state_dict(model.state_dict())
    other = DomainBatch(batch.x_s, batch.y_s, batch.x_t.flip(0))
    assert torch.equal(all_losses(plain, batch)["rec"], all_losses(plain, other)["rec"])
    assert not torch.equal(all_losses(model, batch)["rec"], all_losses(model, other)["rec"])


def test_zero_weights_leave_adversary_and_task_alone(model: CDLM, batch: DomainBatch) -> None:
    loss = all_losses(model, batch)
    phi, _ = objectives(loss, CDLMConfig.of(lambda1=0.0, lambda2=0.0))
    assert torch.equal(phi, loss["adv"] + loss["task"])


def test_set_gradients_touches_the_named_parameters_only() -> None:
    a, b = (torch.nn.Parameter(torch.tensor(2.0)) for _ in range(2))
    set_gradients(a**2 * b, [a])
    assert a.grad == 8 and b.grad is None


def test_translation_is_deterministic_and_in_range(batch: DomainBatch) -> None:
    model = CDLM(SMALL).eval()
    images = model.translate(batch.x_t)
    assert images.shape == (6, 1, 28, 28) and images.abs().max() <= 1
    assert torch.equal(images, model.translate(batch.x_t))


def test_training_is_reproducible_and_never_reads_target_labels(pair) -> None:
    source, target = pair
    def weights(target_) -> list:
        torch.manual_seed(0)
        model = CDLM(SMALL)
        train(model, source, target_, Loop(steps=2, seed=3, batch_size=8))
        return list(model.state_dict().values())
    blind = replace(target, train=replace(target.train, labels=torch.full_like(target.train.labels, 9)))
    for once, again in zip(weights(target), weights(blind)):
        assert torch.equal(once, again)


def test_a_loss_that_is_not_a_number_stops_training_with_its_name(pair) -> None:
    torch.manual_seed(0)
    model = CDLM(SMALL)
    with torch.no_grad():
        next(model.decoder.parameters()).fill_(math.nan)
    with pytest.raises(TrainingError, match=r"'rec' is nan at step 1"):
        train(model, *pair, Loop(steps=3, log_every=1, batch_size=8))
