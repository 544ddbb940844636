"""Methods on features: each loss by hand, whom it reaches, and what each method is when nothing of it is left."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cdlm.data.batches import DomainBatch
from cdlm.methods.adamatch import AdaMatch, AdaMatchConfig, aligned, matching_loss, slow_start
from cdlm.methods.backbone import OnFeatures
from cdlm.methods.base import Now, draw_noise
from cdlm.methods.cdan import CDAN, CDANConfig, certainty_weights, entropies, weighted_adversarial_loss
from cdlm.methods.ilada import ILADA, ILADAConfig, contrastive_loss, neighbor_labels, similarity, trust
from cdlm.methods.mcc import MCC, MCCConfig, class_confusion
from cdlm.methods.parts import conditioned
from cdlm.methods.plain import Plain, PlainConfig
from cdlm.methods.registry import METHODS
from cdlm.methods.shot import SHOT, SHOTConfig, cluster_labels, negative_diversity, target_losses
from cdlm.methods.symmnets import SymmNets, SymmNetsConfig, domain_discrimination, halves_crossed
from cdlm.methods.tpn import TPN, TPNConfig, agreement, class_means, nearness, symmetric_divergence
from cdlm.model.losses import adversarial_loss
from cdlm.settings import flat
from cdlm.training.engine import Trainer

NEIGHBORS = ("cdan", "mcc", "shot", "adamatch", "tpn", "symmnets", "ilada")
PARTS = ("encoder", "classifier", "discriminator")
each_neighbor = pytest.mark.parametrize("name", NEIGHBORS)


def made(kind: type[OnFeatures], config: type, **changes: object) -> OnFeatures:
    torch.manual_seed(0)
    return kind(config.of(width=2, latent=3, **changes)).double().train()


def pair(size: int = 8) -> DomainBatch:
    """Random images, of four classes twice, with all that a method may ask for."""
    x_s, x_t, again, plain = torch.rand(4, size, 1, 28, 28, generator=generator(1), dtype=torch.float64) * 2 - 1
    return DomainBatch(x_s, torch.arange(size) % 4, x_t, again, plain, torch.arange(size) % 4)


def near_pair() -> DomainBatch:
    """Target images that are the source's, paler: each has a neighbor of its own class."""
    batch = pair()
    return replace(batch, x_t=0.9 * batch.x_s)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


LATE = Now(0.7)


def step(method: OnFeatures, now: Now = LATE, batch: DomainBatch | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    return method(batch or pair(), draw_noise(method, 8, generator(2), torch.float64), now)


def reached(method: OnFeatures, name: str, now: Now = LATE) -> set[str]:
    """The networks for which one loss of a method has a gradient that is not 0."""
    loss = step(method, now, near_pair())[1][name]
    found = set()
    for part in PARTS:
        wanted = [p for p in getattr(method, part).parameters() if p.requires_grad] if hasattr(method, part) else []
        grads = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True) if wanted and loss.requires_grad else []
        if any(g is not None and bool(g.any()) for g in grads):
            found.add(part)
    return found


# Who is reached

BOTH = {"encoder", "classifier"}


@pytest.mark.parametrize("kind, config, now, expected", [
    (CDAN, CDANConfig, Now(0.7), {"task": BOTH, "adv": {*BOTH, "discriminator"}}),
    (MCC, MCCConfig, Now(0.7), {"task": BOTH, "confusion": BOTH}),
    (SHOT, SHOTConfig, Now(0.2), {"task": BOTH, "entropy": set(), "diversity": set(), "own": set()}),
    (SHOT, SHOTConfig, Now(0.7), {"task": set(), "entropy": BOTH, "diversity": BOTH, "own": BOTH}),
    (AdaMatch, AdaMatchConfig, Now(0.7), {"task": BOTH, "own": BOTH}),
    (TPN, TPNConfig, Now(0.7), {"task": {"encoder"}, "general": {"encoder"}, "specific": {"encoder"}}),
    (SymmNets, SymmNetsConfig, Now(0.7, "classifier"), dict.fromkeys(("task", "second", "domain"), {"classifier"})),
    (SymmNets, SymmNetsConfig, Now(0.7, "encoder"), dict.fromkeys(("confusion", "crossed"), BOTH)),
    (ILADA, ILADAConfig, Now(0.7), {"task": BOTH, "adv": {"encoder", "discriminator"}, "contrast": {"encoder"}}),
])  # fmt: skip
def test_each_loss_reaches_its_networks(kind: type, config: type, now: Now, expected: dict) -> None:
    sure = {name: value for name, value in (("confidence", 0.0), ("neighbors", 1)) if name in flat(config())}
    method = made(kind, config, **sure)
    assert {name: reached(method, name, now) for name in step(method, now)[1]} == expected


def test_weights_of_entropy_reach_the_classifier_and_cdan_without_them_does_not() -> None:
    assert reached(made(CDAN, CDANConfig, by_entropy=False), "adv") == {"encoder", "discriminator"}
    assert reached(made(CDAN, CDANConfig), "adv", Now(0.0)) == {"discriminator"}, "at strength 0 the discriminator watches"


@each_neighbor
def test_backbone_is_that_of_plain(name: str) -> None:
    kind, config = METHODS[name]
    method, plain = kind(config.of(width=4)), Plain(PlainConfig.of(width=4))
    assert [p.shape for p in method.encoder.parameters()] == [p.shape for p in plain.encoder.parameters()]
    assert [p.requires_grad for p in method.encoder.parameters()] == [p.requires_grad for p in plain.encoder.parameters()]
    phi, theirs = method.learners()[0], plain.learners()[0]
    assert (phi.lr, phi.optimizer, phi.momentum) == (theirs.lr, theirs.optimizer, theirs.momentum)
    assert phi.schedule(0.99) == pytest.approx(theirs.schedule(0.99), abs=0.02)


@pytest.mark.parametrize("name, off", [
    ("cdan", {"weight": 0.0}), ("mcc", {"weight": 0.0}), ("adamatch", {"self_training": 0.0}),
    ("tpn", {"general": 0.0, "specific": 0.0}), ("ilada", {"weight": 0.0, "contrast": 0.0})])
def test_without_its_weights_the_target_moves_neither_features_nor_classifier(name: str, off: dict) -> None:
    """Source-only training is left: other target images give encoder and classifier the same gradients."""
    found = []
    for sign in (1, -1):
        method, batch = made(*METHODS[name], **off), pair()
        step(method, batch=replace(batch, x_t=sign * batch.x_t, x_t_again=sign * batch.x_t_again))[0].backward()
        found.append([0 * p if p.grad is None else p.grad for part in ("encoder", "classifier") if hasattr(method, part)
                      for p in getattr(method, part).parameters()])
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(*found, strict=True))
    assert any(bool(g.any()) for g in found[0])


# CDAN


def test_entropy_weights_by_hand() -> None:
    """Entropies log 2 and 0: weights 3/2 and 2, of which the mean is 7/4."""
    logits = torch.tensor([[0.0, 0.0], [0.0, 500.0]], dtype=torch.float64)
    assert entropies(logits).tolist() == pytest.approx([math.log(2), 0])
    assert certainty_weights(logits).tolist() == pytest.approx([6 / 7, 8 / 7])


def test_weighted_loss_by_hand_and_with_equal_weights() -> None:
    zero, one = torch.zeros(2), torch.ones(2)
    assert weighted_adversarial_loss(zero, zero, torch.tensor([0.5, 1.5]), one).item() == pytest.approx(2 * math.log(2))
    guess_s, guess_t = random(2, 6)
    ones = torch.ones(6, dtype=torch.float64)
    assert torch.allclose(weighted_adversarial_loss(guess_s, guess_t, ones, ones), adversarial_loss(guess_s, guess_t))


def test_with_equal_entropies_cdan_e_is_cdan() -> None:
    with_e, without = made(CDAN, CDANConfig), made(CDAN, CDANConfig, by_entropy=False)
    without.load_state_dict(with_e.state_dict())
    values = []
    for method in (with_e, without):
        torch.nn.init.zeros_(method.classifier[-1].weight)
        torch.nn.init.zeros_(method.classifier[-1].bias)
        values.append(step(method)[1]["adv"])
    assert torch.allclose(*values, rtol=1e-12)


def test_with_uniform_predictions_cdan_is_dann_on_a_repeated_feature() -> None:
    method = made(CDAN, CDANConfig, by_entropy=False)
    torch.nn.init.zeros_(method.classifier[-1].weight)
    torch.nn.init.zeros_(method.classifier[-1].bias)
    h_s, h_t = method.encode(pair().x_s, pair().x_t)
    assert torch.allclose(conditioned(h_s, torch.zeros(8, 10).double()), h_s.repeat_interleave(10, 1) / 10)
    guesses = (method.discriminator(h.repeat_interleave(10, 1) / 10) for h in (h_s, h_t))
    assert torch.allclose(step(method)[1]["adv"], adversarial_loss(*guesses))


def test_cdan_e_is_the_authors_mean_over_both_domains() -> None:
    """As their program has it: weights divided by their sum in each domain, all divided by the sum of these, which is 2."""
    guess_s, guess_t = random(2, 6)
    g_s, g_t = random(2, 6, 4, seed=1)
    def weights(g: Tensor) -> Tensor:
        return 1 + (g.softmax(1) * g.log_softmax(1)).sum(1).exp()
    bce = F.binary_cross_entropy_with_logits(torch.cat([guess_s, guess_t]), torch.cat([torch.ones(6), torch.zeros(6)]).double(),
                                             reduction="none")
    w = torch.cat([weights(g_s) / weights(g_s).sum(), weights(g_t) / weights(g_t).sum()])
    ours = weighted_adversarial_loss(guess_s, guess_t, certainty_weights(g_s), certainty_weights(g_t))
    assert ours.item() / 2 == pytest.approx(((w * bce).sum() / w.sum()).item(), rel=1e-12)


def test_the_entropys_gradient_is_reversed() -> None:
    logits = random(5, 3).requires_grad_()
    upstream = random(5, seed=3)
    grads = [torch.autograd.grad((upstream * certainty_weights(logits, strength)).sum(), logits)[0] for strength in (-1.0, 0.5)]
    assert torch.allclose(grads[1], -0.5 * grads[0]) and bool(grads[0].any())


# MCC


def test_confusion_by_hand() -> None:
    """Two images, predictions (3/4, 1/4) and (1/4, 3/4), equal weights: C = (10, 6; 6, 10) / 16, rows (5/8, 3/8)."""
    logits = torch.tensor([[math.log(3), 0.0], [0.0, math.log(3)]], dtype=torch.float64)
    assert class_confusion(logits, 1.0).item() == pytest.approx(3 / 8)
    assert class_confusion(2.5 * logits).item() == pytest.approx(3 / 8)


@given(st.integers(2, 12), st.integers(2, 6), st.floats(0.5, 5), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_confusion_is_a_share(size: int, classes: int, temperature: float, seed: int) -> None:
    logits = 3 * random(size, classes, seed=seed)
    assert 0 <= class_confusion(logits, temperature).item() <= 1
    assert class_confusion(torch.zeros(size, classes), temperature).item() == pytest.approx(1 - 1 / classes)
    assert class_confusion(1e4 * torch.eye(classes), temperature).item() == 0
    assert class_confusion(1e4 * torch.eye(classes)[:1], temperature).item() == 0, "no NaN for a class that is not predicted"


def test_confusion_is_skadas() -> None:
    losses = pytest.importorskip("skada.deep.losses", exc_type=ImportError, reason="skada[deep] is an extra: rivals")
    logits = 3 * random(16, 10)
    for temperature in (1.0, 2.5):
        theirs = losses.mcc_loss(logits, T=temperature, eps=0.0)
        assert class_confusion(logits, temperature).item() == pytest.approx(theirs.item(), rel=1e-9)


def test_a_temperature_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="temperature must be above 0"):
        MCCConfig(temperature=0.0)


# SHOT


def test_information_is_greatest_for_sure_and_balanced_answers() -> None:
    best = target_losses(1e3 * torch.eye(4).double(), None)
    assert (best["entropy"] + best["diversity"]).item() == pytest.approx(-math.log(4))
    for logits in (1e3 * torch.eye(4).double()[[0] * 4], torch.zeros(4, 4).double(), random(4, 4)):
        other = target_losses(logits, None)
        assert (other["entropy"] + other["diversity"]).item() > -math.log(4) + 1e-6
        assert other["own"].item() == 0


def test_diversity_by_hand() -> None:
    logits = torch.tensor([[1.0, 0.0], [0.5, 0.5]]).log()
    assert negative_diversity(logits).item() == pytest.approx(0.75 * math.log(0.75) + 0.25 * math.log(0.25))


def test_own_labels_count_and_missing_ones_do_not() -> None:
    logits = torch.tensor([[0.25, 0.75], [0.25, 0.75]]).log()
    assert target_losses(logits, torch.tensor([0, -1]))["own"].item() == pytest.approx(-math.log(0.25) / 2)


def test_cluster_labels_by_hand() -> None:
    """Two clouds; one prediction is wrong, and its label is put right by the center of its cloud."""
    h = torch.tensor([[5.0, 0], [4, 0], [6, 0.5], [0, 5], [0.5, 6], [0, 4]])
    p = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.1, 0.9], [0.1, 0.9], [0.1, 0.9]])
    assert cluster_labels(h, p).tolist() == [0, 0, 0, 1, 1, 1] != p.argmax(1).tolist()


def test_cluster_labels_are_those_of_the_published_program() -> None:
    """Its formula, with loops: weighted centers, cosine distance, once more with hard labels."""
    h, p = random(30, 4), (2 * random(30, 3, seed=1)).softmax(1)
    f = torch.cat([h, torch.ones(30, 1)], 1)
    f = f / f.norm(dim=1, keepdim=True)
    weights = p
    for _ in range(2):
        centers = [sum(w * x for w, x in zip(weights[:, k], f)) / weights[:, k].sum() for k in range(3)]
        labels = torch.tensor([max(range(3), key=lambda k: F.cosine_similarity(x, centers[k], dim=0).item()) for x in f])
        weights = torch.eye(3).double()[labels]
    assert torch.equal(cluster_labels(h, p), labels)


def test_in_its_second_phase_the_classifier_stands_still_and_the_source_is_forgotten() -> None:
    found = []
    for sign in (1, -1):
        method, batch = made(SHOT, SHOTConfig), pair()
        trainer = Trainer(method, 4)
        for k in range(4):
            if k == 2:
                frozen = [p.clone() for p in method.classifier.parameters()]
                encoder = [p.clone() for p in method.encoder.parameters() if p.requires_grad]
            trainer.iterate(replace(batch, x_s=batch.x_s * (sign if k >= 2 else 1)), torch.zeros(0, 8, 0))
        assert all(map(torch.equal, frozen, method.classifier.parameters()))
        assert not any(map(torch.equal, encoder, [p for p in method.encoder.parameters() if p.requires_grad]))
        found.append(encoder + [p.clone() for p in method.parameters()])
    assert all(map(torch.equal, *found))


def test_it_labels_all_images_as_its_features_say() -> None:
    method = SHOT(SHOTConfig.of(width=2, latent=3)).eval()
    images = torch.randint(256, (12, 1, 28, 28), generator=generator(), dtype=torch.uint8)
    x = images.float() / 127.5 - 1
    with torch.no_grad():
        expected = cluster_labels(method.features(x), method.logits(x).softmax(1))
    assert torch.equal(method.relabel(images), expected) and method.label_every == "epoch"
    assert SHOT(SHOTConfig.of(own=0.0)).label_every == 0


# AdaMatch


def test_aligned_by_hand() -> None:
    """The source has its classes 3 to 1, the target's predictions 1 to 1: the first counts three times as much."""
    p_s, p_t = torch.tensor([[0.75, 0.25]]), torch.tensor([[0.5, 0.5], [0.2, 0.8], [0.8, 0.2]])
    expected = torch.tensor([[0.75, 0.25], [0.6 / 1.4, 0.8 / 1.4], [2.4 / 2.6, 0.2 / 2.6]])
    assert torch.allclose(aligned(p_t, p_s), expected)
    assert torch.allclose(aligned(p_t, p_t), p_t)


def test_matching_loss_by_hand() -> None:
    again = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log()
    p = torch.tensor([[0.8, 0.2], [0.6, 0.4]])
    first, second = -(0.8 * math.log(0.25) + 0.2 * math.log(0.75)), math.log(2)
    for threshold, expected in ((0.5, (first + second) / 2), (0.7, first / 2), (0.9, 0.0)):
        assert matching_loss(again, p, threshold).item() == pytest.approx(expected)


def test_slow_start_by_hand() -> None:
    assert [slow_start(p) for p in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([0, 0.5, 1, 1])


def test_mixing_of_two_passes_matters_only_where_a_batch_is_normalized() -> None:
    for normalization, same in (("group", True), ("batch", False)):
        mixed, joint = (made(AdaMatch, AdaMatchConfig, normalization=normalization, interpolate=on) for on in (True, False))
        values = [step(method)[1]["task"].item() for method in (mixed, joint)]
        assert (values[0] == pytest.approx(values[1], rel=1e-9)) == same


def test_its_objective_by_hand() -> None:
    method, batch = made(AdaMatch, AdaMatchConfig, confidence=0.5), pair()
    g_plain, g_s, g_t, g_again = (method.logits(x) for x in (batch.x_s_plain, batch.x_s, batch.x_t, batch.x_t_again))
    task = (F.cross_entropy(g_plain, batch.y_s) + F.cross_entropy(g_s, batch.y_s)) / 2
    p_s, p_t = g_plain.softmax(1), g_t.softmax(1)
    p = p_t * p_s.mean(0) / p_t.mean(0)
    p = p / p.sum(1, keepdim=True)
    kept = p.max(1).values >= 0.5 * p_s.max(1).values.mean()
    own = -((p * g_again.log_softmax(1)).sum(1) * kept).mean()
    assert step(method, Now(0.25))[0].item() == pytest.approx((task + 0.5 * own).item(), rel=1e-9)


# TPN


def test_class_means_by_hand() -> None:
    means, counts = class_means(torch.tensor([[1.0, 0], [3, 0], [0, 5], [9, 9]]), torch.tensor([0, 0, 2, -1]), 3)
    assert means.tolist() == [[2, 0], [0, 0], [0, 5]] and counts.tolist() == [2, 0, 1]
    g = nearness(torch.tensor([[2.0, 1.0]]), means, counts > 0)
    assert g[0, 0].item() == -1 and g[0, 2].item() == -20 and g.softmax(1)[0, 1].item() == 0


def test_agreement_by_hand() -> None:
    """One class, means 0, 2 and, with twice as many images of the source, 2/3; a single class has no divergence."""
    h_s, h_t = torch.zeros(2, 1), torch.full((1, 1), 2.0)
    general, specific = agreement(h_s, torch.zeros(2).long(), h_t, torch.zeros(1).long(), 3)
    assert general.item() == pytest.approx(4 + 4 / 9 + 16 / 9) and specific.item() == 0
    for term in agreement(h_s, torch.zeros(2).long(), h_t, torch.full((1,), -1), 3):
        assert term.item() == 0, "no class is in both domains"


def test_divergence_is_the_librarys() -> None:
    g, other = random(2, 6, 4)
    p, q = (torch.distributions.Categorical(logits=x) for x in (g, other))
    kl = torch.distributions.kl_divergence
    assert symmetric_divergence(g, other).item() == pytest.approx(((kl(p, q) + kl(q, p)) / 2).mean().item())


def test_agreement_is_zero_for_one_and_the_same_domain() -> None:
    h, y = random(8, 3), torch.arange(8) % 4
    assert all(abs(term.item()) < 1e-12 for term in agreement(h, y, h, y, 5))


def test_means_for_tests_follow_the_source_in_training_only() -> None:
    method, batch = made(TPN, TPNConfig, keep=0.5), pair()
    means, counts = class_means(method.features(batch.x_s), batch.y_s, 10)
    step(method)
    assert torch.allclose(method.means, means / 2) and (counts > 0).sum() == 4
    method.eval()
    before = method.means.clone()
    step(method)
    assert torch.equal(method.means, before)
    assert torch.allclose(method.logits(batch.x_t), nearness(method.features(batch.x_t), before))


def test_tpn_needs_features_that_learn() -> None:
    with pytest.raises(ValueError, match="leave nothing to learn"):
        TPNConfig.of(features="pca")


# SymmNets


def test_symmnets_losses_by_hand() -> None:
    """One class, two answers: for uniform logits log 2 twice; for target probabilities (3/4, 1/4) -log 1/4."""
    zero, y = torch.zeros(1, 2), torch.zeros(1).long()
    assert domain_discrimination(zero, zero, y).item() == pytest.approx(2 * math.log(2))
    o_t = torch.tensor([[0.75, 0.25]]).log()
    assert domain_discrimination(zero, o_t, y).item() == pytest.approx(math.log(2) - math.log(0.25))
    assert halves_crossed(o_t).item() == pytest.approx(-(0.75 * math.log(0.25) + 0.25 * math.log(0.75)) / 2)


def test_halves_are_of_one_softmax() -> None:
    o = random(5, 8)
    p, q = o.softmax(1)[:, :4], o.softmax(1)[:, 4:]
    assert halves_crossed(o).item() == pytest.approx(-(p * q.log() + q * p.log()).sum(1).mean().item() / 2)
    assert halves_crossed(torch.tensor([[0.5, 1e-9, 0.5, 1e-9]]).log()).item() == pytest.approx(math.log(2) / 2, abs=1e-6)


def test_symmnets_rounds_have_their_objectives() -> None:
    method, batch, k = made(SymmNets, SymmNetsConfig), pair(), 10
    o_s, o_t = (method.classifier(method.features(x)) for x in (batch.x_s, batch.x_t))
    y, p_t = batch.y_s, o_t.softmax(1)
    head = (F.cross_entropy(o_s[:, :k], y) + F.cross_entropy(o_s[:, k:], y) + F.cross_entropy(o_s, y)
            - p_t[:, k:].sum(1).log().mean())
    assert step(method, Now(0.0, "classifier"))[0].item() == pytest.approx(head.item(), rel=1e-9)
    encoder = (F.cross_entropy(o_s, y) + F.cross_entropy(o_s, y + k)) / 2
    assert step(method, Now(0.0, "encoder"))[0].item() == pytest.approx(encoder.item(), rel=1e-9)
    assert torch.equal(method.logits(batch.x_t), o_t[:, k:])


# ILA-DA


def test_similarities_and_labels_by_hand() -> None:
    h_s, y_s = torch.tensor([[0.0], [1.0], [2.0], [9.0]]), torch.tensor([0, 1, 1, 2])
    phi = similarity(h_s, torch.tensor([[1.0]]))
    assert torch.allclose(phi[:, 0], torch.tensor([1 / 2, 1, 1 / 2, 1 / 9]))
    assert neighbor_labels(phi, y_s, 3).tolist() == [1]
    assert trust(phi, y_s, torch.tensor([1]), 1).item() == pytest.approx(1 / 0.5)
    assert trust(phi, y_s, torch.tensor([1]), 2).item() == pytest.approx(1.5 / (1 / 2 + 1 / 9))


def test_contrast_by_hand() -> None:
    """The second source image has target images of its class only, the third none: both are left out."""
    phi = torch.tensor([[1.0, 0.5], [0.3, 0.3], [0.9, 0.9]])
    y_t = torch.tensor([0, 1])
    expected = -math.log(math.exp(1) / (math.exp(1) + math.exp(0.5)))
    assert contrastive_loss(phi[:1], torch.tensor([0]), y_t).item() == pytest.approx(expected)
    assert contrastive_loss(phi, torch.tensor([0, 5, 6]), y_t).item() == pytest.approx(expected)
    assert contrastive_loss(phi[:1], torch.tensor([0]), torch.tensor([0, 0])).item() == 0


def test_contrast_begins_when_it_is_due_and_is_added_to_cdan() -> None:
    method, cdan = made(ILADA, ILADAConfig, contrast=2.0, neighbors=1), made(CDAN, CDANConfig, by_entropy=False)
    cdan.load_state_dict(method.state_dict())
    for progress in (0.1, 0.5):
        ours, found = step(method, Now(progress), near_pair())
        assert (found["contrast"].item() > 0) == (progress > 0.16)
        alone = step(cdan, Now(progress), near_pair())[0]
        assert ours.item() == pytest.approx((alone + 2 * found["contrast"]).item(), rel=1e-9)


def test_where_all_target_images_get_one_label_there_is_nothing_to_contrast() -> None:
    """As at the start of training, where domains are far apart."""
    h_s, far = random(8, 3), random(8, 3, seed=1) + torch.tensor([1000.0, 0, 0])
    method, y = made(ILADA, ILADAConfig, neighbors=1), torch.arange(8) % 4
    assert neighbor_labels(similarity(h_s, far), y, 1).unique().numel() == 1
    assert method.contrast(h_s, y, far).item() == 0 < method.contrast(h_s, y, h_s + 0.01).item()
