"""Methods on images: each loss by hand, whom it reaches in which round, and what each method is when nothing of it is left."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdlm.data.batches import DomainBatch
from cdlm.methods.backbone import OnFeatures
from cdlm.methods.base import Now, draw_noise
from cdlm.methods.cycada import CyCADA, CyCADAConfig, reading_losses
from cdlm.methods.generators import ImagePool, PatchDiscriminator, Redrawer, fooling_loss, judging_loss, least_squares
from cdlm.methods.gta import GtA, GtAConfig
from cdlm.methods.pixelda import PixelDA, PixelDAConfig, pairwise_error
from cdlm.methods.plain import Plain, PlainConfig
from cdlm.methods.registry import METHODS
from cdlm.model.gradients import reverse_gradient
from cdlm.model.losses import adversarial_loss
from cdlm.settings import Images
from cdlm.training.engine import Trainer

PIXELS = ("pixelda", "gta", "cycada")
PARTS = {
    "pixelda": {"encoder", "classifier", "generator", "discriminator"},
    "gta": {"encoder", "classifier", "generator", "discriminator"},
    "cycada": {"encoder", "classifier", "to_target", "to_source", "judge_t", "judge_s", "teacher", "discriminator"},
}
each_method = pytest.mark.parametrize("name", PIXELS)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(name: str, **changes: object) -> OnFeatures:
    torch.manual_seed(0)
    kind, config = METHODS[name]
    return kind(config.of(width=2, latent=3, **changes)).double().train()


def pair(size: int = 8) -> DomainBatch:
    x_s, x_t = torch.rand(2, size, 1, 28, 28, generator=generator(1), dtype=torch.float64) * 2 - 1
    return DomainBatch(x_s, torch.arange(size) % 4, x_t)


def noise(method: OnFeatures, size: int = 8) -> Tensor:
    return draw_noise(method, size, generator(2), torch.float64)


def step(
    method: OnFeatures, round_: str, progress: float = 0.7, batch: DomainBatch | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    return method(batch or pair(), noise(method), Now(progress, round_))


def moved(name: str, round_: str, **changes: object) -> set[str]:
    """The networks that one round, its learners being who they are, changes."""
    method = made(name, **changes)
    before = deepcopy(method)
    trainer = Trainer(method, 10)
    trainer.done = 7
    objective, _ = method(pair(), noise(method), Now(0.7, round_))
    objective.backward()
    for learner in next(each.learners for each in method.rounds() if each.name == round_):
        trainer.optimizers[learner].step()
    return {part for part in PARTS[name]
            if not all(map(torch.equal, getattr(method, part).parameters(), getattr(before, part).parameters()))}


def reached(name: str, round_: str, loss: str, **changes: object) -> set[str]:
    """The networks that learn in a round, for which one loss has a gradient that is not 0."""
    method = made(name, **changes)
    value = step(method, round_)[1][loss]
    learners = {learner.name: learner.parameters for learner in method.learners()}
    learning = {id(p) for each in method.rounds() if each.name == round_ for who in each.learners for p in learners[who]}
    found = set()
    for part in PARTS[name]:
        wanted = [p for p in getattr(method, part).parameters() if id(p) in learning]
        if wanted and value.requires_grad:
            grads = torch.autograd.grad(value, wanted, retain_graph=True, allow_unused=True)
            if any(g is not None and bool(g.any()) for g in grads):
                found.add(part)
    return found


# Who is reached

READS = {"encoder", "classifier"}
DRAWS = {"to_target", "to_source"}


@pytest.mark.parametrize("name, round_, expected", [
    ("pixelda", "judge", {"task": READS, "drawn": READS, "domain": {"discriminator"}}),
    ("pixelda", "draw", dict.fromkeys(("style", "kept", "similarity"), {"generator"})),
    ("gta", "judge", {"real class": {"discriminator"}, "domain": {"discriminator"}}),
    ("gta", "draw", {"fooling": {"generator"}, "drawn class": {"generator"}}),
    ("gta", "read", {"task": READS, "source part": {"encoder"}, "target part": {"encoder"}}),
    ("cycada", "draw", {"to target": {"to_target"}, "to source": {"to_source"}, "cycle": DRAWS, "semantic": DRAWS}),
    ("cycada", "judge", {"judge target": {"judge_t"}, "judge source": {"judge_s"}, "source": {"teacher"},
                         "domain": {"discriminator"}}),
    ("cycada", "read", {"task": READS, "feature": READS}),
])  # fmt: skip
def test_each_loss_reaches_its_networks(name: str, round_: str, expected: dict) -> None:
    sure = {"trusted": 100.0, "sure": 0.0} if name == "cycada" else {}
    assert {loss: reached(name, round_, loss, **sure) for loss in step(made(name, **sure), round_)[1]} == expected


@pytest.mark.parametrize("name, round_, expected", [
    ("pixelda", "judge", {*READS, "discriminator"}), ("pixelda", "draw", {"generator"}),
    ("gta", "judge", {"discriminator"}), ("gta", "draw", {"generator"}), ("gta", "read", READS),
    ("cycada", "draw", DRAWS), ("cycada", "judge", {"judge_t", "judge_s", "teacher", "discriminator"}), ("cycada", "read", READS)])
def test_a_round_moves_its_networks_and_no_others(name: str, round_: str, expected: set[str]) -> None:
    assert moved(name, round_) == expected


@each_method
def test_backbone_is_that_of_plain(name: str) -> None:
    kind, config = METHODS[name]
    method, plain = kind(config.of(width=4)), Plain(PlainConfig.of(width=4))
    for part in ("encoder", "classifier"):
        ours, theirs = (list(getattr(each, part).parameters()) for each in (method, plain))
        assert [(p.shape, p.requires_grad) for p in ours] == [(p.shape, p.requires_grad) for p in theirs]
    phi, theirs = method.learners()[0], plain.learners()[0]
    assert (phi.lr, phi.optimizer, phi.momentum, phi.schedule) == (theirs.lr, theirs.optimizer, theirs.momentum, theirs.schedule)


def reading_gradients(method: OnFeatures, batch: DomainBatch, round_: str) -> list[Tensor]:
    """Gradients of encoder and classifier in a round."""
    method.zero_grad()
    step(method, round_, batch=batch)[0].backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for part in (method.encoder, method.classifier)
            for p in part.parameters()]


def source_only_gradients(method: OnFeatures, x: Tensor, y: Tensor) -> list[Tensor]:
    method.zero_grad()
    F.cross_entropy(method.logits(x), y).backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for part in (method.encoder, method.classifier)
            for p in part.parameters()]


def close(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name, round_, off", [
    ("pixelda", "judge", {"drawn": 0.0}), ("gta", "read", {"adversarial": 0.0})])
def test_without_its_weights_it_is_training_on_the_source_alone(name: str, round_: str, off: dict) -> None:
    method, batch = made(name, **off), pair()
    expected = source_only_gradients(method, batch.x_s, batch.y_s)
    assert close(reading_gradients(method, batch, round_), expected)
    assert any(bool(g.any()) for g in expected)
    assert not close(reading_gradients(made(name), batch, round_), expected)


def test_without_its_weights_cycada_is_training_on_what_an_untrained_generator_draws() -> None:
    off = {"to_target": 0.0, "to_source": 0.0, "cycle": 0.0, "semantic": 0.0, "feature": 0.0}
    method, batch = made("cycada", **off), pair()
    before = deepcopy(method.to_target)
    trainer = Trainer(method, 4)
    trainer.step(batch, generator())
    assert all(map(torch.equal, before.parameters(), method.to_target.parameters())), "nobody teaches the generator"
    with torch.no_grad():
        drawn = method.to_target(batch.x_s)
    expected = source_only_gradients(method, drawn, batch.y_s)
    assert close(reading_gradients(method, batch, "read"), expected)


@pytest.mark.parametrize("name, off", [
    ("pixelda", {"style": 0.0, "task": 0.0}), ("gta", {"adversarial": 0.0}),
    ("cycada", {"to_target": 0.0, "to_source": 0.0, "cycle": 0.0, "semantic": 0.0, "feature": 0.0})])
def test_without_its_weights_the_target_moves_neither_features_nor_classifier(name: str, off: dict) -> None:
    found = []
    for sign in (1, -1):
        method, batch = made(name, **off), pair()
        trainer, g = Trainer(method, 3), generator()
        for _ in range(3):
            trainer.step(replace(batch, x_t=sign * batch.x_t), g)
        found.append([p.detach() for part in (method.encoder, method.classifier) for p in part.parameters()])
    assert all(map(torch.equal, *found))


@each_method
def test_a_target_image_is_read_alone_as_among_others_and_without_noise(name: str) -> None:
    """Its classifier reads a target image as it is, alone as among others, with no noise."""
    method, x = made(name).eval(), pair().x_t
    state = torch.get_rng_state()
    assert torch.allclose(method.logits(x)[:1], method.logits(x[:1]))
    assert torch.equal(torch.get_rng_state(), state) and method.paths == ("x_t",)


@each_method
def test_all_randomness_comes_with_the_noise(name: str) -> None:
    method, state = made(name), torch.get_rng_state()
    Trainer(method, 3).step(pair(), generator())
    assert torch.equal(torch.get_rng_state(), state)


# What draws and what judges


@pytest.mark.parametrize("size", [28, 32, 64])
def test_drawings_have_the_shape_of_images_and_stay_in_range(size: int) -> None:
    x = torch.rand(2, 3, size, size, generator=generator()) * 2 - 1
    drawn = Redrawer(3, 4, 2, extra=1)(x, x[:, :1])
    assert drawn.shape == x.shape and drawn.abs().max() < 1
    assert PatchDiscriminator(3, 4)(x).shape == (2, (size // 4) ** 2)


def test_a_generator_that_has_nothing_to_add_gives_a_softer_copy() -> None:
    x = torch.rand(2, 1, 28, 28, generator=generator()) * 2 - 1
    draw = Redrawer(1, 4)
    for p in draw.layers[-2].parameters():
        nn.init.zeros_(p)
    assert torch.allclose(draw(x), torch.tanh(2 * x))


def test_a_patch_sees_twenty_pixels() -> None:
    x = torch.zeros(1, 1, 28, 28, requires_grad=True)
    PatchDiscriminator(1, 4, "none")(x)[0, 24].backward()
    rows, columns = x.grad[0, 0].nonzero().unbind(1)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 23, 4, 23)


def test_losses_by_hand() -> None:
    zero = torch.zeros(3, 4)
    assert fooling_loss(zero).item() == pytest.approx(math.log(2))
    assert fooling_loss(torch.tensor([math.log(3)])).item() == pytest.approx(-math.log(3 / 4))
    assert least_squares(torch.tensor([1.0, 3.0]), 1.0).item() == 2
    assert judging_loss(torch.tensor([0.0, 2.0]), torch.tensor([3.0])).item() == (1 + 9) / 2


def test_losses_are_torchs() -> None:
    real, drawn = torch.randn(2, 6, generator=generator())
    ones, zeros = torch.ones(6), torch.zeros(6)
    bce = F.binary_cross_entropy_with_logits
    assert fooling_loss(drawn).item() == pytest.approx(bce(drawn, ones).item())
    assert adversarial_loss(real, drawn).item() == pytest.approx((bce(real, ones) + bce(drawn, zeros)).item())
    assert judging_loss(real, drawn).item() == pytest.approx((F.mse_loss(real, ones) + F.mse_loss(drawn, zeros)).item() / 2)


# The pool


def numbers(*values: float) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1)


def test_a_pool_shows_older_drawings_where_coins_say_so() -> None:
    pool = ImagePool(2, 1, 1, 1)
    assert pool.swap(numbers(0, 1), torch.tensor([1.0, 1.0])).flatten().tolist() == [0, 1], "it is not full yet"
    assert pool.swap(numbers(2, 3), torch.tensor([1.0, -1.0])).flatten().tolist() == [0, 3]
    assert pool.images.flatten().tolist() == [2, 1], "what is not shown is kept, and what is shown is not"
    assert pool.swap(numbers(4), torch.tensor([1.0])).flatten().tolist() == [2]
    assert pool.swap(numbers(5, 6, 7), torch.ones(3)).flatten().tolist() == [1, 4, 7], "it goes on where it was"
    assert pool.seen == 7


def test_no_drawing_is_lost_or_doubled_by_a_pool() -> None:
    pool, g, shown = ImagePool(5, 1, 1, 1), generator(), []
    for start in range(0, 40, 4):
        shown += pool.swap(numbers(*range(start, start + 4)), torch.randn(4, generator=g)).flatten().tolist()
    older = sum(a != b for a, b in zip(shown, range(40), strict=True))
    assert len(set(shown[5:])) == 35 and 5 < older < 35
    assert set(range(40)) - set(shown) <= set(pool.images.flatten().tolist())


def test_a_pool_is_in_the_state_and_takes_part_in_what_comes_next() -> None:
    pool, coins = ImagePool(2, 1, 1, 1), torch.ones(2)
    pool.swap(numbers(1, 2), coins)
    other = ImagePool(2, 1, 1, 1)
    other.load_state_dict(pool.state_dict())
    assert torch.equal(pool.swap(numbers(3, 4), coins), other.swap(numbers(3, 4), coins))
    drawn = numbers(5.0, 6.0).requires_grad_()
    assert not pool.swap(drawn, coins).requires_grad


# PixelDA


def test_similarity_by_hand() -> None:
    """Differences 1, 1, 3, 3: mean square 5, squared mean 4. The same for all pixels costs nothing."""
    x, drawn = torch.tensor([[1.0, 1, 3, 3]]), torch.zeros(1, 4)
    assert pairwise_error(x, drawn).item() == 1
    assert pairwise_error(x, x + 7).item() == pytest.approx(0)
    assert pairwise_error(x, drawn, torch.tensor([[1.0, 1, 0, 0]])).item() == 0
    assert pairwise_error(x, drawn, torch.tensor([[1.0, 0, 1, 0]])).item() == 1
    assert pairwise_error(x, drawn, torch.zeros(1, 4)).item() == 0, "no object, no loss"


def test_similarity_is_the_mean_over_pairs_of_pixels() -> None:
    x, drawn = torch.randn(2, 3, 1, 4, 4, generator=generator(), dtype=torch.float64)
    d = (x - drawn).flatten(1)
    pairs = (d[:, :, None] - d[:, None]).square().mean((1, 2)) / 2
    assert pairwise_error(x, drawn).item() == pytest.approx(pairs.mean().item())


def test_pixelda_by_hand() -> None:
    """All networks answer 0: domain 2 log 2, style log 2, both task losses log 10."""
    method = made("pixelda", style=3.0, task=0.5, real=1.0, drawn=2.0)
    for part in (method.classifier[-1], method.discriminator[-2]):
        nn.init.zeros_(part.weight)
        nn.init.zeros_(part.bias)
    objective, found = step(method, "judge")
    assert {k: v.item() for k, v in found.items()} == pytest.approx(
        {"task": math.log(10), "drawn": math.log(10), "domain": 2 * math.log(2)})
    assert objective.item() == pytest.approx(3 * math.log(10) + 2 * math.log(2))
    objective, found = step(method, "draw")
    assert found["style"].item() == pytest.approx(math.log(2)) and found["kept"].item() == pytest.approx(math.log(10))
    assert objective.item() == pytest.approx(3 * math.log(2) + 0.5 * math.log(10))


def test_noise_of_pixelda_is_uniform_and_blurs_what_is_judged() -> None:
    method, batch = made("pixelda"), pair(64)
    eps = draw_noise(method, 64, generator(3), torch.float64)
    seen = []
    method.generator.register_forward_hook(lambda module, inputs, output: seen.append(inputs[1]))
    method.redraw(batch.x_s, eps)
    z = seen[0]
    assert z.shape == (64, 10) and -1 < z.min() < -0.98 and 0.98 < z.max() < 1
    assert abs(z.mean().item()) < 0.1 and z.var().item() == pytest.approx(1 / 3, abs=0.03)
    judged = []
    method.discriminator.register_forward_hook(lambda module, inputs, output: judged.append(inputs[0] - batch.x_t))
    method.judge(batch.x_t, eps, 0)
    method.judge(batch.x_t, eps, 1)
    assert all(blur.std().item() == pytest.approx(0.2, rel=0.02) for blur in judged)
    assert abs((judged[0] * judged[1]).mean().item()) < 1e-3, "two noises"


# GtA


def test_gta_by_hand() -> None:
    """All networks answer 0."""
    method = made("gta", adversarial=0.5, confusion=0.25)
    for part in (method.classifier[-1], method.discriminator.real, method.discriminator.classes):
        nn.init.zeros_(part.weight)
        nn.init.zeros_(part.bias)
    two, ten = math.log(2), math.log(10)
    assert step(method, "judge")[0].item() == pytest.approx(ten + 3 * two)
    assert step(method, "draw")[0].item() == pytest.approx(ten + two)
    assert step(method, "read")[0].item() == pytest.approx(ten + 0.5 * (ten + 0.25 * two))


def test_gtas_objectives_are_those_of_the_published_program() -> None:
    """Its formula with probabilities: errD, errG and errF."""
    method, batch = made("gta", noise_length=4), pair()
    eps, bce, ce = noise(method), nn.BCELoss(), nn.CrossEntropyLoss()
    one, none = torch.ones(8, dtype=torch.float64), torch.zeros(8, dtype=torch.float64)
    h_s, h_t = method.features(batch.x_s), method.features(batch.x_t)
    hot_s, hot_t = torch.zeros(2, 8, 11, dtype=torch.float64)
    hot_s[torch.arange(8), batch.y_s] = 1
    hot_t[:, 10] = 1
    fake_s = method.generator(torch.cat([h_s, hot_s, eps[0]], 1))
    fake_t = method.generator(torch.cat([h_t, hot_t, eps[1]], 1))
    (r, rc), (s, sc), (t, _) = ((a.sigmoid(), b) for a, b in map(method.discriminator, (batch.x_s, fake_s, fake_t)))
    expected = {
        "judge": ce(rc, batch.y_s) + bce(r, one) + bce(s, none) + bce(t, none),
        "draw": ce(sc, batch.y_s) + bce(s, one),
        "read": ce(method.classifier(h_s), batch.y_s) + ce(sc, batch.y_s) * 0.1 + bce(t, one) * (0.1 * 0.3)}
    for name, value in expected.items():
        assert step(method, name)[0].item() == pytest.approx(value.item(), rel=1e-9), name


def test_drawings_of_the_target_are_told_that_they_are_of_it() -> None:
    method, told = made("gta"), []
    method.generator.register_forward_hook(lambda module, inputs, output: told.append(inputs[0][:, 3:14]))
    step(method, "judge")
    assert torch.equal(told[0].argmax(1), pair().y_s) and bool((told[1].argmax(1) == 10).all())
    assert all(torch.equal(one.sum(1), torch.ones(8).double()) for one in told)


# CyCADA


class Same(nn.Module):
    """Gives back what it gets."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def with_identities(**changes: object) -> CyCADA:
    method = made("cycada", **changes)
    method.to_target, method.to_source = Same(), Same()
    return method


def test_generators_that_change_nothing_go_there_and_back_for_nothing() -> None:
    method, batch = with_identities(trusted=100.0), pair()
    _, found = step(method, "draw")
    assert found["cycle"].item() == 0
    logits = method.teacher(torch.cat([batch.x_s, batch.x_t])).double()
    known, guessed = logits.chunk(2)
    expected = F.cross_entropy(known, batch.y_s) + F.cross_entropy(guessed, guessed.argmax(1))
    assert found["semantic"].item() == pytest.approx(expected.item())
    assert found["to target"].item() == pytest.approx((method.judge_t(batch.x_s) - 1).square().mean().item())
    assert found["to source"].item() == pytest.approx((method.judge_s(batch.x_t) - 1).square().mean().item())


def test_with_such_generators_it_is_training_on_the_source_alone() -> None:
    method, batch = with_identities(feature=0.0), pair()
    expected = source_only_gradients(method, batch.x_s, batch.y_s)
    assert close(reading_gradients(method, batch, "read"), expected)


def test_what_the_generators_descend_is_the_weighted_sum() -> None:
    """As the authors' program adds it: 2 and 1 for the two games, 1 for both ways of the cycle, 1 for meaning."""
    objective, found = step(made("cycada", trusted=100.0), "draw")
    expected = 2 * found["to target"] + found["to source"] + found["cycle"] + found["semantic"]
    assert objective.item() == pytest.approx(expected.item())


def test_cycle_by_hand() -> None:
    """There, everything grows by 1; back, it shrinks by 0.25: 0.75 is missing each way round."""
    class Shift(nn.Module):
        def __init__(self, by: float) -> None:
            super().__init__()
            self.by = by

        def forward(self, x: Tensor) -> Tensor:
            return x + self.by
    method = made("cycada")
    method.to_target, method.to_source = Shift(1.0), Shift(-0.25)
    assert step(method, "draw")[1]["cycle"].item() == pytest.approx(1.5)


def test_meaning_counts_when_the_source_is_read_well_enough() -> None:
    batch = pair()
    loss = F.cross_entropy(made("cycada").teacher(batch.x_s), batch.y_s).item()
    assert step(made("cycada", trusted=loss + 0.01), "draw")[1]["semantic"].item() > 0
    assert step(made("cycada", trusted=loss - 0.01), "draw")[1]["semantic"].item() == 0


def test_judges_see_the_pool() -> None:
    method, batch = made("cycada", pool=8), pair()
    eps, first = noise(method), None
    for turn in range(2):
        with torch.no_grad():
            drawn = method.to_target(batch.x_s)
            older = drawn if first is None else torch.where((eps[0, :, 0] > 0)[:, None, None, None], first, drawn)
            expected = judging_loss(method.judge_t(batch.x_t), method.judge_t(older))
        found = method(batch, eps, Now(0.1, "judge"))[1]
        assert found["judge target"].item() == pytest.approx(expected.item(), rel=1e-9), turn
        first = drawn
        with torch.no_grad():
            method.to_target.layers[1][0].bias += 0.5


@pytest.mark.parametrize("progress, bias, counts", [(0.7, 0.0, True), (0.4, 0.0, False), (0.7, 9.0, False)])
def test_features_are_moved_late_and_only_where_their_judge_is_right_often(progress: float, bias: float, counts: bool) -> None:
    """A judge that says "source" to all is right in half of the cases."""
    class Told(nn.Module):
        """Right about the first batch and the second one; with a bias, about the first one alone."""

        def __init__(self) -> None:
            super().__init__()
            self.answers = [1.0, -1.0]

        def forward(self, g: Tensor) -> Tensor:
            return self.answers.pop(0) + bias + 0 * g.sum(1)
    method = made("cycada")
    method.discriminator = Told()
    objective, found = reading_losses(method, pair(), pair().x_s, progress)
    assert found["feature"].item() == pytest.approx(F.softplus(torch.tensor(1.0)).item() if counts else 0)
    assert objective.item() == pytest.approx((found["task"] + 0.1 * found["feature"]).item())


def test_it_can_be_made_for_images_of_color_and_other_sizes() -> None:
    images = Images(channels=3, size=32, classes=4)
    for kind, config in ((PixelDA, PixelDAConfig), (GtA, GtAConfig), (CyCADA, CyCADAConfig)):
        method = kind(config.of(width=2, latent=3, normalization="batch"), images).train()
        x_s, x_t = torch.rand(2, 6, 3, 32, 32, generator=generator()) * 2 - 1
        losses = Trainer(method, 2).step(DomainBatch(x_s, torch.arange(6) % 4, x_t), generator())
        assert all(value.isfinite() for value in losses.values())
        assert method.eval().logits(x_t).shape == (6, 4)


# Beside others


def test_reversed_gradients_and_the_fooling_loss_agree_where_the_judge_is_undecided() -> None:
    """At a score of 0 both ways of hiding pull equally hard, one with the other's sign turned around."""
    score = torch.zeros(4, requires_grad=True)
    fooled, = torch.autograd.grad(fooling_loss(score), score)
    hidden, = torch.autograd.grad(adversarial_loss(torch.zeros(4), reverse_gradient(score)), score)
    assert torch.allclose(fooled, hidden)
