"""Domain-adversarial training: who is reached by what, its limits, its settings, and the label-free reading."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from cdlm.data.batches import DomainBatch
from cdlm.domains.samples import load_domain
from cdlm.files import RunError
from cdlm.methods.dann import DANN, DANNConfig, alignment_loss
from cdlm.methods.registry import build_config
from cdlm.methods.source import SourceConfig, SourceOnly
from cdlm.model.discrepancy import coral_distance, median_width, mmd_squared
from cdlm.model.gradients import reversal_strength
from cdlm.model.losses import adversarial_loss
from cdlm.runs.spec import RunSpec, build_method
from cdlm.settings import Images
from cdlm.training.engine import Trainer
from cdlm.training.loop import Loop, train

ALIGNMENTS = ("adversarial", "coral", "mmd")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def batch() -> DomainBatch:
    g = generator()
    x_s, x_t = torch.rand(2, 6, 1, 28, 28, generator=g) * 2 - 1
    return DomainBatch(x_s, torch.arange(6), 0.5 * x_t)


def model(**settings: object) -> DANN:
    torch.manual_seed(0)
    return DANN(DANNConfig(width=4, **settings))


def weights(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def gradients(loss: torch.Tensor, module: torch.nn.Module) -> torch.Tensor:
    found = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True, allow_unused=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(module.parameters(), found)])


def test_defaults_are_those_of_ganin_et_al() -> None:
    config = DANNConfig()
    assert (config.weight, config.hidden, config.lr, config.momentum, config.decay) == (1.0, 100, 0.01, 0.9, 0.75)
    assert (config.optimizer, config.alignment, config.width) == ("sgd", "adversarial", 16)
    assert DANN().config == config


def test_shapes(batch: DomainBatch) -> None:
    net = model(hidden=7)
    assert net.features(batch.x_s).shape == (6, 128) and (net.features(batch.x_s) >= 0).all()
    assert net.discriminator.layers[0].weight.shape == (7, 128)
    assert torch.equal(net.logits(batch.x_t), net.classifier(batch.x_t))
    assert torch.equal(net.logits(batch.x_t), net.classifier.layers[-1](net.features(batch.x_t)))
    torch.manual_seed(0)
    assert DANN(images=Images(channels=3)).logits(batch.x_s.expand(-1, 3, -1, -1)).shape == (6, 10)


@pytest.mark.parametrize("settings, words", [({"alignment": "magic"}, "alignment is 'magic'"), ({"optimizer": "x"}, "sgd, adam")])
def test_unknown_choices_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DANNConfig(**settings)
    with pytest.raises(RunError, match=words):
        build_config("dann", settings)


def test_a_run_can_build_it() -> None:
    built = build_method(RunSpec("dann", "mnist", "optdigits", settings={"alignment": "coral"}), load_domain("mnist"))
    assert isinstance(built, DANN) and built.config == DANNConfig(alignment="coral")


# Who is reached by what


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_the_adversary_reaches_features_reversed_and_itself_whole(batch: DomainBatch, strength: float) -> None:
    net = model()
    gap, pull = alignment_loss(net, net.features(batch.x_s), net.features(batch.x_t), strength)
    plain = adversarial_loss(net.discriminator(net.features(batch.x_s)), net.discriminator(net.features(batch.x_t)))
    assert torch.equal(gap, plain) and torch.equal(pull, plain)
    torch.testing.assert_close(gradients(pull, net.discriminator), gradients(plain, net.discriminator))
    torch.testing.assert_close(gradients(pull, net.classifier), -strength * gradients(plain, net.classifier))
    assert gradients(plain, net.classifier).any()


@pytest.mark.parametrize("alignment, distance", [
    ("coral", coral_distance), ("mmd", lambda x, y: mmd_squared(x, y, median_width(x, y)))])
def test_a_distance_reaches_the_features_with_its_strength(batch: DomainBatch, alignment: str, distance) -> None:
    net = model(alignment=alignment)
    gap, pull = alignment_loss(net, net.features(batch.x_s), net.features(batch.x_t), 0.4)
    plain = distance(net.features(batch.x_s), net.features(batch.x_t))
    assert torch.equal(gap, plain) and plain > 0
    torch.testing.assert_close(pull, 0.4 * plain)
    torch.testing.assert_close(gradients(pull, net.classifier), 0.4 * gradients(plain, net.classifier))
    assert not gradients(pull, net.discriminator).any()


# Steps


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_two_steps_of_gradient_descent_with_momentum(batch: DomainBatch, alignment: str) -> None:
    """Written out: first at strength 0 and full step size, then at the strength and step size of half the way."""
    net, twin = model(alignment=alignment, weight=2.0).double(), model(alignment=alignment, weight=2.0).double()
    batch = DomainBatch(batch.x_s.double(), batch.y_s, batch.x_t.double())
    trainer = Trainer(net, 2)
    velocity = None
    for done in (0, 1):
        h_s, h_t = twin.features(batch.x_s), twin.features(batch.x_t)
        task = F.cross_entropy(twin.classifier.layers[-1](h_s), batch.y_s)
        gap, pull = alignment_loss(twin, h_s, h_t, reversal_strength(done / 2, 2.0))
        gradient = gradients(task + pull, twin)
        velocity = gradient if velocity is None else 0.9 * velocity + gradient
        expected = weights(twin) - 0.01 * (1 + 10 * done / 2) ** -0.75 * velocity
        losses = trainer.step(batch, generator())
        torch.testing.assert_close(weights(net), expected, rtol=1e-9, atol=1e-12)
        assert set(losses) == {"task", "gap"} and not any(value.requires_grad for value in losses.values())
        torch.testing.assert_close(torch.stack([losses["task"], losses["gap"]]), torch.stack([task, gap]).detach())
        twin.load_state_dict(net.state_dict())


def test_weight_zero_is_source_only_training_bit_for_bit() -> None:
    source, target = load_domain("mnist"), load_domain("optdigits")
    torch.manual_seed(3)
    plain = SourceOnly(SourceConfig(width=4))
    torch.manual_seed(3)
    aligned = DANN(DANNConfig(width=4, weight=0.0, decay=0.0, optimizer="adam", lr=1e-3))
    for method in (plain, aligned):
        train(method, source, target, Loop(steps=5, batch_size=16, seed=1))
    assert torch.equal(weights(plain.classifier), weights(aligned.classifier))


def test_the_target_images_are_used(batch: DomainBatch) -> None:
    others = []
    for x_t in (batch.x_t, -batch.x_t):
        net = model()
        trainer = Trainer(net, 4)
        for _ in range(4):
            trainer.step(DomainBatch(batch.x_s, batch.y_s, x_t), generator())
        others.append(weights(net.classifier))
    assert not torch.equal(*others)


def test_step_sizes_fall_as_in_the_paper(batch: DomainBatch) -> None:
    net = model(lr=0.5, decay=0.5, momentum=0.25)
    trainer = Trainer(net, 5)
    assert trainer.optimizers["both"].param_groups[0]["momentum"] == 0.25
    for done in range(5):
        assert trainer.optimizers["both"].param_groups[0]["lr"] == pytest.approx(0.5 * (1 + 2 * done) ** -0.5)
        trainer.step(batch, generator())
    adam = model(optimizer="adam", lr=0.002)
    trainer = Trainer(adam, 5)
    assert isinstance(trainer.optimizers["both"], torch.optim.Adam) and trainer.optimizers["both"].param_groups[0]["lr"] == 0.002


def test_a_step_draws_no_random_numbers(batch: DomainBatch) -> None:
    net, g = model(), generator()
    trainer = Trainer(net, 1)
    before, everywhere = g.get_state(), torch.get_rng_state()
    trainer.step(batch, g)
    assert torch.equal(g.get_state(), before) and torch.equal(torch.get_rng_state(), everywhere)


def test_mmd_brings_features_together_and_the_classifier_still_learns() -> None:
    """A short training on digits, with and without: no target label is read."""
    source, target = load_domain("mnist"), load_domain("optdigits")
    gaps, tasks = {}, {}
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        net = DANN(DANNConfig(width=4, alignment="mmd", weight=weight))
        last = train(net, source, target, Loop(steps=150, batch_size=32, log_every=50))[-1]
        gaps[weight], tasks[weight] = last["gap"], last["task"]
    assert gaps[1.0] < 0.7 * gaps[0.0]
    assert tasks[1.0] < 0.5 * math.log(10)
