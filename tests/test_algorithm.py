"""Algorithm 1, fused and as printed: the same gradients, parameter by parameter; limits and identities of the whole model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from cdlm.data.batches import DomainBatch
from cdlm.gradients import seam
from cdlm.methods.base import draw_noise
from cdlm.methods.cdlm import (
    CDLM,
    CDLMConfig,
    Codes,
    cross_codes,
    fused_losses,
    literal_gradients,
    transfer_code,
    transfer_codes,
)
from cdlm.nets import Encoded
from cdlm.training import Trainer

SMALL = CDLMConfig(width=4, latent=3, lambda1=0.3, lambda2=0.2, gamma2=0.5)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(config: CDLMConfig, pairs: int = 5, seed: int = 0) -> tuple[CDLM, DomainBatch, torch.Tensor]:
    """A float64 model of the config, a batch for it, and noise."""
    torch.manual_seed(seed)
    model, g = CDLM(config).double(), generator(seed)
    x_s, x_t = torch.rand(2, pairs, config.channels, config.size, config.size, generator=g, dtype=torch.float64) * 2 - 1
    if config.features == "pca":
        model.encoder.h.fit(torch.cat([x_s, x_t]))
    return model, DomainBatch(x_s, torch.arange(pairs), x_t), draw_noise(model, pairs, g, torch.float64)


def gradients(model: CDLM) -> dict[str, torch.Tensor]:
    return {name: p.grad if p.grad is not None else torch.zeros_like(p) for name, p in model.named_parameters()}


def fused_gradients(model: CDLM, batch: DomainBatch, eps: torch.Tensor, strength: float) -> dict[str, torch.Tensor]:
    model.zero_grad()
    objective, losses = fused_losses(model, batch, eps, strength)
    objective.backward()
    return losses


CHANGES = [
    {}, {"modulation": "pm1"}, {"modulation": "pm2"}, {"modulation": "none"}, {"kl": "conditional"}, {"kl": "marginal"},
    {"kl": "simplified"}, {"kl": "conditional", "modulation": "pm1"}, {"consistency": "l1"}, {"consistency": "printed"},
    {"reduction": "mean"}, {"shared_noise": True}, {"classifier": "decoupled"}, {"reads": "real"}, {"reads": "drawn"},
    {"task_reaches_encoder": False}, {"task_reaches_decoder": False},
    {"task_reaches_encoder": False, "task_reaches_decoder": False}, {"consistency_reaches_encoder": True},
    {"consistency_reaches_encoder": True, "task_reaches_decoder": False},
    {"channels": 3, "size": 32}, {"normalization": "none"}, {"normalization": "batch"},
    {"normalization": "batch", "consistency_reaches_encoder": True}, {"tap": "conv2"}, {"features": "pca"},
    {"activation": "linear"}, {"lambda1": 0.0, "lambda2": 0.0, "beta1": 0.0, "beta2": 0.0},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: "-".join(f"{k}={v}" for k, v in change.items()) or "default")
def test_one_pass_gives_the_gradients_of_the_printed_algorithm(change: dict) -> None:
    """To float64 precision, for every parameter, under every switch; and the same losses."""
    model, batch, eps = made(replace(SMALL, **change))
    losses = fused_gradients(model, batch, eps, 0.7)
    fused = {name: g.clone() for name, g in gradients(model).items()}
    model.zero_grad()
    literal_losses = literal_gradients(model, batch, eps, 0.7)
    literal = gradients(model)
    scale = max(float(g.abs().max()) for g in literal.values())
    for name, gradient in literal.items():
        assert torch.allclose(fused[name], gradient, rtol=1e-9, atol=1e-12 * scale), name
    for name, value in literal_losses.items():
        assert torch.allclose(losses[name], value, rtol=1e-12), name
    assert any(bool(g.any()) for name, g in literal.items() if name.startswith("classifier"))


def test_a_seam_reaches_whom_it_should_and_nobody_else() -> None:
    torch.manual_seed(0)
    network, z = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double(), torch.randn(6, 3, dtype=torch.float64)
    z.requires_grad_()
    weight = torch.randn(6, 2, dtype=torch.float64)
    (network(z) * weight).sum().backward()
    plain_z, plain = z.grad.clone(), [p.grad.clone() for p in network.parameters()]
    for view, to_input, to_network in (("both", True, True), ("input", True, False), ("network", False, True)):
        z.grad = None
        network.zero_grad()
        (getattr(seam(network, z, 4), view) * weight).sum().backward()
        expected = torch.cat([plain_z[:4], torch.zeros(2, 3)]) if to_input else torch.zeros(6, 3)
        assert torch.allclose(z.grad if z.grad is not None else torch.zeros(6, 3).double(), expected.double())
        for p, g in zip(network.parameters(), plain):
            assert torch.allclose(p.grad, g) if to_network else p.grad is None


def test_a_seam_calls_its_network_once_for_every_row() -> None:
    rows = []
    class Counting(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            rows.append(len(x))
            return super().forward(x)
    network = Counting(2, 2)
    reach = seam(network, torch.randn(5, 2, requires_grad=True), 2)
    (reach.both.sum() + reach.input.sum() + reach.network.sum()).backward()
    assert sum(rows) == 5


def encoded(seed: int, pairs: int = 4, latent: int = 3) -> Encoded:
    g = generator(seed)
    mu, raw, h = torch.randn(3, pairs, latent, generator=g, dtype=torch.float64)
    return Encoded(mu, raw.exp(), h.sigmoid())


def test_the_four_maps_at_their_limits() -> None:
    s, t, eps = encoded(1), encoded(2), torch.randn(4, 3, dtype=torch.float64, generator=generator())
    plain = s.mu + s.sigma * eps
    assert torch.equal(transfer_code(s, t, eps, "none"), plain)
    assert torch.allclose(transfer_code(s, t, eps, "full", 0.0, 1.0), plain, rtol=1e-15)
    same = t._replace(sigma=s.sigma)                                       # equal spreads: PM1 and PM2 are the plain VAE
    for modulation in ("pm1", "pm2"):
        assert torch.allclose(transfer_code(s, same, eps, modulation), plain, rtol=1e-14)
        assert not torch.allclose(transfer_code(s, t, eps, modulation), plain)
    assert torch.equal(transfer_code(s, t, eps, "pm2"), s.mu + t.sigma * eps)


def test_noise_is_shared_by_all_codes_or_by_none() -> None:
    s, t = encoded(1), encoded(2)
    for count, shared in ((1, True), (4, False)):
        eps = torch.randn(count, 4, 3, dtype=torch.float64, generator=generator())
        codes: Codes = transfer_codes(s, t, eps, "none", 1.0, 1.0)
        noises = [(codes.z_st - s.mu) / s.sigma, (codes.z_ts - t.mu) / t.sigma, codes.u_s - s.h, codes.u_t - t.h]
        assert all(torch.allclose(noises[0], other) for other in noises[1:]) is shared


def test_the_codes_of_the_first_chapter_are_those_of_the_whole_model() -> None:
    s, t = encoded(1), encoded(2)
    noise = torch.stack([torch.randn(4, 3, dtype=torch.float64, generator=g) for g in [generator(3)] for _ in range(4)])
    for one, other in zip(cross_codes(s, t, generator(3), 0.8, 0.3), transfer_codes(s, t, noise, "full", 0.8, 0.3)):
        assert torch.equal(one, other)


def after_steps(config: CDLMConfig, steps: int = 2) -> dict[str, torch.Tensor]:
    model, batch, _ = made(config)
    trainer, g = Trainer(model, steps), generator(7)
    for _ in range(steps):
        trainer.step(batch, g)
    return model.state_dict()


def assert_equal(one: dict, other: dict, but: tuple[str, ...] = ()) -> None:
    for name, value in one.items():
        if not name.startswith(but or ("-",)):
            assert torch.allclose(value, other[name], rtol=1e-10, atol=1e-13), name


def test_no_features_and_all_noise_is_the_plain_vae() -> None:
    """gamma1 = 0, gamma2 = 1 in Eqs. 1-2: the same training as without modulation."""
    weights = {"gamma1": 0.0, "gamma2": 1.0}
    assert_equal(after_steps(replace(SMALL, **weights)), after_steps(replace(SMALL, **weights, modulation="none")))


def test_each_weight_at_zero_is_the_smaller_model() -> None:
    """A loss of weight 0 might as well not exist: exchanging it for another kind of loss changes nothing."""
    def same(zero: dict, **other: object) -> None:
        assert_equal(after_steps(replace(SMALL, **zero)), after_steps(replace(SMALL, **zero, **other)))
    same({"lambda1": 0.0}, kl="marginal")
    same({"beta1": 0.0, "beta2": 0.0}, consistency="printed")
    same({"reversal": 0.0}, warm_up=False)
    same({"beta1": 0.0, "beta2": 0.0}, consistency_reaches_encoder=True)


def test_without_adversary_the_discriminator_does_not_matter() -> None:
    one, other = (made(replace(SMALL, reversal=0.0))[0] for _ in range(2))
    with torch.no_grad():
        for p in other.discriminator.parameters():
            p.add_(1.0)
    _, batch, _ = made(SMALL)
    for model in (one, other):
        trainer, g = Trainer(model, 2), generator(7)
        trainer.step(batch, g), trainer.step(batch, g)
    assert_equal(one.state_dict(), other.state_dict(), but=("discriminator",))


def test_alternating_updates_one_by_one() -> None:
    """phi moves first; theta then descends objectives made anew from the moved phi, with the same noise."""
    config = replace(SMALL, updates="alternating", inner_phi=2, inner_theta=1, optimizer_theta="sgd")
    model, batch, eps = made(config)
    by_hand, _, _ = made(config)
    Trainer(model, steps=10).iterate(batch, eps)
    rates = {"encoder": config.lr_phi, "discriminator": config.lr_theta, "decoder": config.lr_theta, "classifier": config.lr_theta}
    velocity = {}
    for parts in (("encoder", "discriminator"), ("encoder", "discriminator"), ("decoder", "classifier")):
        by_hand.zero_grad()
        literal_gradients(by_hand, batch, eps, by_hand.strength(0.0))
        with torch.no_grad():
            for name, p in by_hand.named_parameters():
                part = name.split(".")[0]
                if part in parts:
                    velocity[name] = config.momentum * velocity.get(name, 0) + p.grad
                    p -= rates[part] * velocity[name]
    assert_equal(model.state_dict(), by_hand.state_dict())
    at_once = after = made(replace(config, updates="simultaneous"))[0]
    Trainer(at_once, steps=10).iterate(batch, eps)
    assert not torch.allclose(after.decoder[1][0].weight, model.decoder[1][0].weight)


@pytest.mark.parametrize("change, words", [
    ({"modulation": "half"}, "modulation is 'half'; it must be one of full, pm1, pm2, none"),
    ({"kl": "conditional", "gamma2": 0.0}, "needs gamma2 > 0"), ({"inner_phi": 0}, "at least 1"),
    ({"optimizer_phi": "lion"}, "optimizer_phi is 'lion'")])
def test_settings_that_cannot_be_are_refused(change: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        CDLMConfig(**change)


def test_precision_is_one_of_two() -> None:
    with pytest.raises(ValueError, match="float32"):
        Trainer(CDLM(SMALL), 1, precision="half")


def test_bfloat16_gives_nearly_the_gradients_of_float32() -> None:
    gradient = {}
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        model = CDLM(replace(SMALL, width=8, latent=8))
        g = generator()
        x_s, x_t = torch.rand(2, 16, 1, 28, 28, generator=g) * 2 - 1
        trainer = Trainer(model, 10, precision)
        losses = trainer.update((), DomainBatch(x_s, torch.arange(16) % 10, x_t), draw_noise(model, 16, g))
        assert all(value.dtype == torch.float32 for value in losses.values())
        gradient[precision] = torch.cat([p.grad.flatten() for p in model.decoder.parameters()])
    cosine = torch.nn.functional.cosine_similarity(gradient["float32"], gradient["bfloat16"], dim=0)
    assert 0.99 < cosine < 1 - 1e-9
