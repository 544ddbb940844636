"""Source-only training: its networks, its blindness for the target, and how it is measured."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cdlm.data.batches import DomainBatch, draw, normalize
from cdlm.domains.samples import load_domain
from cdlm.evaluation.accuracy import accuracy, per_class_accuracy, predict
from cdlm.methods.source import SourceConfig, SourceOnly
from cdlm.model.networks import TaskClassifier, conv_block, norm
from cdlm.settings import Images
from cdlm.training.engine import Trainer


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int, channels: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, channels, 28, 28, generator=generator(seed)) * 2 - 1


def batch(seed: int = 0, target_seed: int = 1, channels: int = 1) -> DomainBatch:
    labels = torch.randint(10, (8,), generator=generator(seed))
    return DomainBatch(images(8, channels, seed), labels, images(8, channels, target_seed))


def method(config: SourceConfig | None = None, seed: int = 0, images: Images | None = None) -> SourceOnly:
    torch.manual_seed(seed)
    return SourceOnly(config, images)


def weights(module: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


# Networks


@pytest.mark.parametrize("channels, groups", [(1, 1), (8, 1), (16, 1), (32, 2), (64, 4), (128, 8)])
def test_norm_standardizes_groups_of_sixteen_channels(channels: int, groups: int) -> None:
    x = torch.randn(3, channels, 5, 5, generator=generator(), dtype=torch.float64) * 7 + 3
    layer = norm(channels).double()
    y = layer(x).view(3, groups, -1)
    assert torch.allclose(y.mean(2), torch.zeros(3, groups).double(), atol=1e-12)
    assert torch.allclose(y.var(2, correction=0), torch.ones(3, groups).double(), atol=1e-4)
    assert torch.allclose(layer(5 * x - 2), layer(x), atol=1e-4)


@given(st.integers(1, 9), st.integers(1, 3), st.integers(0, 4), st.integers(9, 28))
@settings(max_examples=30, deadline=None)
def test_conv_block_has_the_size_of_its_formula(kernel: int, stride: int, padding: int, side: int) -> None:
    y = conv_block(2, 16, kernel, stride, padding)(torch.randn(1, 2, side, side, generator=generator()))
    size = math.floor((side + 2 * padding - kernel) / stride) + 1
    assert y.shape == (1, 16, size, size)


def test_conv_block_is_convolution_normalization_leaky_relu() -> None:
    torch.manual_seed(0)
    block, x = conv_block(3, 32, 5, 2, 2), images(4, 3)
    convolution = block[0]
    a = F.conv2d(x, convolution.weight, convolution.bias, stride=2, padding=2).view(4, 2, -1)
    a = ((a - a.mean(2, keepdim=True)) / (a.var(2, keepdim=True, correction=0) + 1e-5).sqrt()).view(4, 32, 14, 14)
    assert torch.allclose(block(x), torch.where(a > 0, a, 0.01 * a), atol=1e-5)


@pytest.mark.parametrize("channels, width, classes", [(1, 16, 10), (3, 16, 10), (1, 32, 4), (3, 8, 2)])
def test_classifier_shapes_and_size(channels: int, width: int, classes: int) -> None:
    net = TaskClassifier(channels, width, classes)
    assert net(images(5, channels)).shape == (5, classes)
    first, second = 25 * channels * width + 3 * width, 25 * width * 2 * width + 6 * width
    assert sum(p.numel() for p in net.parameters()) == first + second + 98 * width * 128 + 128 + 129 * classes


def test_classifier_is_two_blocks_and_two_linear_layers() -> None:
    torch.manual_seed(0)
    net, x = TaskClassifier(width=16), images(4)
    first, second, _, hidden, _, last = net.layers
    features = second(first(x))
    assert first(x).shape == (4, 16, 14, 14) and features.shape == (4, 32, 7, 7)
    by_hand = last(hidden(features.view(4, 1568)).clamp(min=0))
    assert torch.allclose(net(x), by_hand, atol=1e-6)


def test_an_image_is_read_the_same_alone_and_in_company() -> None:
    torch.manual_seed(0)
    net, x = TaskClassifier().double(), images(6).double()
    alone = torch.cat([net(one) for one in x.split(1)])
    assert torch.allclose(net(x), alone, atol=1e-12)
    assert torch.allclose(net(x)[:3], net(torch.cat([x[:3], 50 + 9 * x[3:]]))[:3], atol=1e-12)


def test_images_with_other_channels_are_refused() -> None:
    with pytest.raises(RuntimeError, match="3 channels"):
        TaskClassifier(channels=1)(images(2, 3))


# The method


def test_first_step_is_adam_on_the_cross_entropy() -> None:
    """Adam's first step is the learning rate times the sign of the gradient, nearly: g / (|g| + eps)."""
    model, pair = method(), batch()
    loss = -model.logits(pair.x_s).log_softmax(1)[range(8), pair.y_s].mean()
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
    before = weights(model)
    trainer = Trainer(model, 1)
    losses = trainer.step(pair, generator())
    assert set(losses) == {"task"} and torch.allclose(losses["task"], loss) and not losses["task"].requires_grad
    assert torch.allclose(before - weights(model), 1e-3 * gradient / (gradient.abs() + 1e-8), atol=2e-6)


def test_the_target_is_never_used() -> None:
    one, other = method(), method()
    for model, target_seed in ((one, 1), (other, 2)):
        trainer = Trainer(model, 3)
        for step in range(3):
            trainer.step(batch(step, target_seed), generator())
    assert torch.equal(weights(one), weights(other))
    nothing = batch()
    nothing = DomainBatch(nothing.x_s, nothing.y_s, torch.full_like(nothing.x_t, math.nan))
    assert Trainer(one, 1).step(nothing, generator())["task"].isfinite()


def test_a_step_draws_no_random_numbers() -> None:
    model, g = method(), generator()
    trainer = Trainer(model, 1)
    before, globally = g.get_state(), torch.get_rng_state()
    trainer.step(batch(), g)
    assert torch.equal(g.get_state(), before) and torch.equal(torch.get_rng_state(), globally)


def test_gradients_do_not_pile_up_over_steps() -> None:
    model, pair = method(SourceConfig(lr=0.0)), batch()
    trainer = Trainer(model, 2)
    trainer.step(pair, generator())
    first = [p.grad.clone() for p in model.parameters()]
    trainer.step(pair, generator())
    assert all(torch.equal(a, p.grad) for a, p in zip(first, model.parameters()))


def test_config_reaches_network_and_optimizer() -> None:
    model = method(SourceConfig(width=32, lr=0.25), images=Images(channels=3))
    trainer = Trainer(model, 1)
    assert model.classifier.layers[0][0].weight.shape == (32, 3, 5, 5)
    assert [group["lr"] for group in trainer.optimizers["classifier"].param_groups] == [0.25]
    assert method().config == SourceConfig(16, 1e-3)
    assert torch.equal(weights(method()), weights(method())) and not torch.equal(weights(method()), weights(method(seed=1)))


def test_it_learns_its_own_domain_and_not_the_other() -> None:
    """What the chapter is about, in small: 200 steps on MNIST."""
    source, target, model, g = load_domain("mnist"), load_domain("optdigits"), method(), generator()
    trainer = Trainer(model, 200)
    for _ in range(200):
        x, y = draw(source.train, 64, g)
        trainer.step(DomainBatch(x, y, x), g)
    scores = [accuracy(predict(model.logits, d.test.images), d.test.labels) for d in (source, target)]
    assert scores[0] > 0.9 and 0.4 < scores[1] < 0.85


# Measuring


@given(st.integers(1, 60), st.integers(1, 70))
@settings(max_examples=30, deadline=None)
def test_predictions_do_not_depend_on_how_images_are_batched(count: int, batch_size: int) -> None:
    pictures = torch.randint(0, 256, (count, 1, 28, 28), generator=generator(count), dtype=torch.uint8)

    def brightness(x: torch.Tensor) -> torch.Tensor:
        return -(x.mean((1, 2, 3))[:, None] - torch.linspace(-0.1, 0.1, 10)) ** 2

    expected = brightness(normalize(pictures)).argmax(1)
    assert torch.equal(predict(brightness, pictures, batch_size), expected)


def test_predict_keeps_no_graph() -> None:
    seen = []
    model = method()

    def logits(x: torch.Tensor) -> torch.Tensor:
        seen.append(model.logits(x))
        return seen[-1]

    predict(logits, torch.zeros(3, 1, 28, 28, dtype=torch.uint8))
    assert not seen[0].requires_grad


labels_and_guesses = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)


@given(labels_and_guesses)
def test_accuracy_is_the_mixture_of_the_classes(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = torch.tensor(pairs).T
    by_class = per_class_accuracy(predicted, labels, classes=4)
    for c in range(4):
        mine = [guess == label for label, guess in pairs if label == c]
        assert math.isnan(by_class[c]) if not mine else by_class[c].item() == sum(mine) / len(mine)
    shares = torch.bincount(labels, minlength=4) / len(labels)
    assert math.isclose((shares * by_class).nansum().item(), accuracy(predicted, labels), abs_tol=1e-6)
    assert accuracy(predicted, labels) == sum(a == b for a, b in pairs) / len(pairs)


def test_accuracy_refuses_what_cannot_be_compared() -> None:
    for predicted, labels in ((3, 4), (0, 0), ((3, 1), 3)):
        with pytest.raises(ValueError, match="predictions for"):
            accuracy(torch.zeros(predicted), torch.zeros(labels))
