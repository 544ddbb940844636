"""Readouts, confusion, distances, maps, intervals, and the rules that choose a snapshot."""

from __future__ import annotations

import inspect
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy, ttest_rel
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix, mutual_info_score

from cdlm.data.batches import normalize
from cdlm.data.domain import Split
from cdlm.evaluation import selection
from cdlm.evaluation.accuracy import accuracy, class_flips, confusion, per_class_accuracy, predict
from cdlm.evaluation.distances import a_distances, embed_tsne, proxy_a_distance
from cdlm.evaluation.readouts import encode_images, in_batches, pair_codes, probe_h, readouts, translations
from cdlm.evaluation.selection import (
    RULES,
    Selection,
    bnm_score,
    entropy_score,
    information_score,
    label_free_scores,
    oracle,
    select,
    snd_score,
)
from cdlm.evaluation.statistics import t_interval
from cdlm.methods.cdlm import CDLM, CDLMConfig
from cdlm.model.modulation import modulate

seeds = st.integers(0, 10_000)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def images(seed: int, count: int) -> torch.Tensor:
    return torch.randint(256, (count, 1, 28, 28), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.fixture(scope="module")
def model() -> CDLM:
    torch.manual_seed(0)
    return CDLM(CDLMConfig.of(width=4, latent=6)).eval()


@pytest.fixture(scope="module")
def source() -> Split:
    return Split(images(1, 60), torch.arange(60) % 10)


# Paths


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_batches_change_nothing(batch_size: int) -> None:
    x = normal(0, 7, 4)
    assert torch.equal(in_batches(lambda part: 2 * part + 1, x, batch_size), 2 * x + 1)


def test_batches_need_no_gradient() -> None:
    assert not in_batches(torch.nn.Linear(4, 2).double(), normal(0, 7, 4)).requires_grad


def test_codes_are_those_of_the_equations(model: CDLM, source: Split) -> None:
    s, t = encode_images(model.encoder, source.images[:5]), encode_images(model.encoder, images(2, 5))
    codes = pair_codes(model, s, t, torch.Generator().manual_seed(3))
    eps = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.testing.assert_close(codes.z_st, s.mu + s.sigma * (t.h + 0.1 * eps[0]), rtol=0, atol=1e-12)
    torch.testing.assert_close(codes.z_ts, t.mu + t.sigma * (s.h + 0.1 * eps[1]), rtol=0, atol=1e-12)
    torch.testing.assert_close(codes.u_t, t.h + 0.1 * eps[3], rtol=0, atol=1e-12)


def test_codes_follow_the_settings_of_the_model(source: Split) -> None:
    """Without noise and modulation, nothing is left but the mean, and of features alone nothing at all."""
    torch.manual_seed(0)
    still = CDLM(CDLMConfig.of(width=4, latent=6, gamma1=0.0, gamma2=0.0)).eval()
    s, t = encode_images(still.encoder, source.images[:5]), encode_images(still.encoder, images(2, 5))
    codes = pair_codes(still, s, t, torch.Generator().manual_seed(0))
    assert torch.equal(codes.z_st, s.mu) and torch.equal(codes.z_ts, t.mu) and not codes.u_t.any()
    swapped = CDLM(CDLMConfig.of(width=4, latent=6, modulation="pm2")).eval()
    codes = pair_codes(swapped, s, t, torch.Generator().manual_seed(0))
    assert not torch.allclose(codes.z_st, pair_codes(still, s, t, torch.Generator().manual_seed(0)).z_st)


def test_translations_are_images_by_path(model: CDLM, source: Split) -> None:
    x = images(2, 9)
    seen = translations(model, source.images, x)
    assert list(seen) == ["x_t", "x_hat_ts", "x_tilde_t"]
    assert torch.equal(seen["x_t"], normalize(x))
    for drawn in seen.values():
        assert drawn.shape == (9, 1, 28, 28) and drawn.abs().max() <= 1 and not drawn.requires_grad


def test_translation_by_hand(model: CDLM, source: Split) -> None:
    """x_hat_ts and x_tilde_t of one image from Eq. 2, with the same random numbers."""
    x, generator = images(2, 1), torch.Generator().manual_seed(5)
    partner = source.images[torch.randint(60, (1,), generator=generator)]
    eps = torch.randn(4, 1, 6, generator=generator, dtype=torch.float64).float()
    with torch.no_grad():
        s, t = model.encoder(normalize(partner)), model.encoder(normalize(x))
        x_hat_ts = model.decoder(modulate(t.mu, t.sigma, s.h, eps[1]))
        x_tilde_t = model.decoder(t.h + 0.1 * eps[3])
    seen = translations(model, source.images, x, seed=5)
    torch.testing.assert_close(seen["x_hat_ts"], x_hat_ts, rtol=0, atol=1e-5)
    torch.testing.assert_close(seen["x_tilde_t"], x_tilde_t, rtol=0, atol=1e-5)


def test_only_one_path_depends_on_the_source(model: CDLM, source: Split) -> None:
    x = images(2, 9)
    one, other = (translations(model, pool, x) for pool in (source.images, images(3, 60)))
    assert torch.equal(one["x_tilde_t"], other["x_tilde_t"]) and not torch.equal(one["x_hat_ts"], other["x_hat_ts"])
    again, reseeded = (translations(model, source.images, x, seed=seed) for seed in (0, 1))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["x_tilde_t"], reseeded["x_tilde_t"])


def test_paths_are_those_asked_for(model: CDLM, source: Split) -> None:
    x = images(2, 9)
    whole, part = translations(model, source.images, x), translations(model, source.images, x, paths=["x_tilde_t"])
    assert list(part) == ["x_tilde_t"] and torch.equal(part["x_tilde_t"], whole["x_tilde_t"])
    with pytest.raises(ValueError, match="CDLM has no path x_hat_st; it has x_t, x_hat_ts, x_tilde_t"):
        translations(model, source.images, x, paths=["x_hat_st"])


def test_readouts_read_what_is_drawn(model: CDLM, source: Split) -> None:
    x = images(2, 20)
    read, seen = readouts(model, source, x), translations(model, source.images, x)
    assert list(read) == ["x_t", "x_hat_ts", "x_tilde_t", "h"]
    assert all(logits.shape == (20, 10) for logits in read.values())
    assert torch.equal(read["x_t"].argmax(1), predict(model.classifier, x))
    with torch.no_grad():
        torch.testing.assert_close(read["x_tilde_t"], model.classifier(seen["x_tilde_t"]))
    torch.testing.assert_close(read["h"].exp().sum(1), torch.ones(20, dtype=torch.float64))


def test_test_mode_is_that_of_the_model_without_noise(source: Split) -> None:
    torch.manual_seed(0)
    still = CDLM(CDLMConfig.of(width=4, latent=6, gamma2=0.0)).eval()
    x = images(2, 6)
    with torch.no_grad():
        expected = still.logits(normalize(x))
    torch.testing.assert_close(readouts(still, source, x)["x_tilde_t"], expected, rtol=0, atol=1e-5)


def test_probe_is_a_regression_on_features(model: CDLM, source: Split) -> None:
    """Against scikit-learn on features standardized by hand; and the labels of the images that are asked play no part."""
    x = images(2, 15)
    seen, asked = (encode_images(model.encoder, part).h.numpy() for part in (source.images, x))
    mean, deviation = seen.mean(0), seen.std(0)
    machine = LogisticRegression(max_iter=2000).fit((seen - mean) / deviation, source.labels.numpy())
    expected = torch.from_numpy(machine.predict_log_proba((asked - mean) / deviation))
    torch.testing.assert_close(probe_h(model, source, x), expected, rtol=0, atol=1e-3)
    assert "labels" not in inspect.signature(probe_h).parameters


def test_probe_takes_a_random_part(model: CDLM, source: Split) -> None:
    x = images(2, 15)
    whole, part, again, other = (probe_h(model, source, x, count, seed) for count, seed in ((60, 0), (40, 0), (40, 0), (40, 1)))
    assert torch.equal(part, again) and not torch.equal(part, other) and not torch.equal(part, whole)


# Confusion and flips


@given(seeds, st.integers(2, 6), st.integers(0, 60))
@settings(max_examples=40, deadline=None)
def test_confusion_is_that_of_scikit_learn(seed: int, classes: int, count: int) -> None:
    predicted, labels = torch.randint(classes, (2, count), generator=torch.Generator().manual_seed(seed))
    counts = confusion(predicted, labels, classes)
    if count:
        assert counts.tolist() == confusion_matrix(labels, predicted, labels=range(classes)).tolist()
        assert float(counts.trace() / counts.sum()) == pytest.approx(accuracy(predicted, labels))
        shares = counts.double().diag() / counts.sum(1)
        torch.testing.assert_close(shares, per_class_accuracy(predicted, labels, classes), equal_nan=True)
    assert counts.shape == (classes, classes) and int(counts.sum()) == count
    assert torch.equal(confusion(labels, predicted, classes), counts.T)


def test_confusion_refuses_what_it_cannot_count() -> None:
    with pytest.raises(ValueError, match="predictions for"):
        confusion(torch.zeros(3, dtype=torch.long), torch.zeros(4, dtype=torch.long))
    for wrong in (3, -1):
        with pytest.raises(ValueError, match=r"0\.\.2"):
            confusion(torch.tensor([wrong]), torch.tensor([0]), classes=3)
        with pytest.raises(ValueError, match=r"0\.\.2"):
            confusion(torch.tensor([0]), torch.tensor([wrong]), classes=3)


def test_flips_are_what_is_off_the_diagonal() -> None:
    counts = torch.tensor([[5, 1, 0], [4, 0, 4], [0, 0, 7]])
    flips = class_flips(counts)
    assert [flip[:3] for flip in flips] == [(1, 0, 4), (1, 2, 4), (0, 1, 1)]
    assert [flip.share for flip in flips] == pytest.approx([0.5, 0.5, 1 / 6])
    assert sum(flip.count for flip in flips) == int(counts.sum() - counts.trace())
    assert class_flips(counts, least=2) == flips[:2]
    assert class_flips(torch.eye(4, dtype=torch.long)) == [] == class_flips(torch.zeros(3, 3, dtype=torch.long), least=0)


# Distances and maps


def test_a_distances_are_proxies_of_three_kinds(model: CDLM) -> None:
    x_s, x_t = images(1, 40), images(2, 50)
    found = a_distances(model, x_s, x_t, count=30, kernel="linear", seed=4)
    generator = torch.Generator().manual_seed(4)
    x_s, x_t = x_s[torch.randperm(40, generator=generator)[:30]], x_t[torch.randperm(50, generator=generator)[:30]]
    s, t = encode_images(model.encoder, x_s), encode_images(model.encoder, x_t)
    codes = pair_codes(model, s, t, generator)
    pairs = {"pixels": (x_s, x_t), "h": (s.h, t.h), "codes": (codes.z_st, codes.z_ts)}
    assert found == {name: proxy_a_distance(*pair, "linear", seed=4) for name, pair in pairs.items()}
    assert a_distances(model, x_s, x_t, count=30, seed=4) != found


def test_domains_that_differ_and_domains_that_do_not(model: CDLM) -> None:
    dark, bright = images(1, 80) // 4, 255 - images(2, 80) // 4
    apart, same = (a_distances(model, dark, other, count=60) for other in (bright, images(3, 80) // 4))
    assert apart["pixels"] == 2 and apart["h"] > 1.5
    assert all(value < 1 for value in same.values())


def test_a_distances_need_enough_images(model: CDLM) -> None:
    with pytest.raises(ValueError, match="30 images asked, of 40 and 29"):
        a_distances(model, images(1, 40), images(2, 29), count=30)


def test_tsne_is_fixed_and_keeps_clusters_apart() -> None:
    centers = 30 * F.one_hot(torch.arange(2).repeat_interleave(20), 5).double()
    features = normal(0, 40, 5) + centers
    points = embed_tsne(features, perplexity=8)
    assert points.shape == (40, 2) and points.dtype == torch.float32
    assert torch.equal(points, embed_tsne(features.reshape(40, 5, 1), perplexity=8))
    nearest = torch.cdist(points, points).fill_diagonal_(math.inf).argmin(1)
    assert torch.equal(nearest < 20, torch.arange(40) < 20)
    with pytest.raises(ValueError, match="perplexity 40"):
        embed_tsne(features, perplexity=40)


# Intervals


@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_interval_has_its_level(level: float) -> None:
    """By an explicit computation: the density of Student's t is integrated from end to end of the interval."""
    values = normal(3, 6)
    found, mean, error = t_interval(values, level), float(values.mean()), float(values.std()) / math.sqrt(6)
    t = torch.linspace((found.low - mean) / error, (found.high - mean) / error, 20_001, dtype=torch.float64)
    density = math.gamma(3) / (math.sqrt(5 * math.pi) * math.gamma(2.5)) * (1 + t**2 / 5) ** -3         # 5 degrees of freedom
    assert float(torch.trapezoid(density, t)) == pytest.approx(level, abs=1e-7)
    assert found.mean == pytest.approx(mean) == pytest.approx((found.low + found.high) / 2)


def test_interval_of_many_numbers_is_the_normal_one() -> None:
    values = normal(4, 20_000)
    found = t_interval(values)
    assert (found.high - found.mean) * math.sqrt(20_000) / float(values.std()) == pytest.approx(1.96, abs=1e-3)


@given(seeds, st.integers(2, 12))
@settings(max_examples=30, deadline=None)
def test_interval_of_differences_is_that_of_the_paired_test(seed: int, count: int) -> None:
    a, b = normal(seed, 2, count)
    found, expected = t_interval(a - b), ttest_rel(a.numpy(), b.numpy()).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-8, abs=1e-10)
    assert found.mean == pytest.approx(float((a - b).mean()))


def test_interval_needs_two_numbers() -> None:
    for wrong in (torch.ones(1), torch.ones(2, 2)):
        with pytest.raises(ValueError, match="two numbers"):
            t_interval(wrong)
    assert t_interval(torch.ones(3)) == (1, 1, 1)


# Scores of predictions without labels

COUNT, CLASSES = 60, 6
BALANCED = torch.arange(COUNT) % CLASSES
UNIFORM = torch.zeros(COUNT, CLASSES)
ONE_CLASS = 1e3 * F.one_hot(torch.zeros(COUNT, dtype=torch.long), CLASSES)
SURE = 1e3 * F.one_hot(BALANCED, CLASSES)


@pytest.mark.parametrize(
    ("score", "uniform", "one_class", "sure"),
    [
        (entropy_score, -math.log(CLASSES), 0, 0),
        (information_score, 0, 0, math.log(CLASSES)),
        (snd_score, math.log(COUNT - 1), math.log(COUNT - 1), math.log(COUNT / CLASSES - 1)),
        (bnm_score, 1 / CLASSES, CLASSES**-0.5, 1),
    ],
)
def test_scores_at_their_limits(score, uniform: float, one_class: float, sure: float) -> None:
    for logits, expected in ((UNIFORM, uniform), (ONE_CLASS, one_class), (SURE, sure)):
        assert score(logits.double()) == pytest.approx(expected, abs=1e-5)
        assert score(logits) == pytest.approx(expected, abs=1e-5)


@given(seeds, st.integers(2, 30), st.integers(2, 8), st.floats(0.1, 20))
@settings(max_examples=60, deadline=None)
def test_bounds_and_what_scores_do_not_see(seed: int, count: int, classes: int, scale: float) -> None:
    logits = scale * normal(seed, count, classes)
    found = label_free_scores(logits)
    assert -math.log(classes) - 1e-9 <= found["entropy"] <= 1e-9
    assert -1e-9 <= found["information"] <= math.log(min(count, classes)) + 1e-9
    assert -1e-9 <= found["snd"] <= math.log(count - 1) + 1e-9
    assert (count / classes) ** 0.5 / (count * min(count, classes)) ** 0.5 - 1e-9 <= found["bnm"] <= 1 + 1e-9
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.randperm(count, generator=generator), torch.randperm(classes, generator=generator)
    shifted = logits + normal(seed + 1, count, 1)
    for same in (logits[rows], logits[:, columns], shifted):
        assert label_free_scores(same) == pytest.approx(found, abs=1e-8)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_scores_by_other_means(seed: int) -> None:
    """Entropies of scipy, density by a double loop, nuclear norm as the trace of a matrix root."""
    logits = 3 * normal(seed, 12, 4)
    p = logits.softmax(1)
    within = sum(entropy(row.numpy()) for row in p) / 12
    assert entropy_score(logits) == pytest.approx(-within)
    assert information_score(logits) == pytest.approx(entropy(p.mean(0).numpy()) - within)
    density = 0.0
    for i in range(12):
        cosines = torch.stack([F.cosine_similarity(p[i], p[j], dim=0) for j in range(12) if j != i])
        density += entropy((cosines / 0.05).exp().numpy()) / 12
    assert snd_score(logits) == pytest.approx(density)
    norm = torch.linalg.eigvalsh(p.T @ p).clamp(min=0).sqrt().sum().item()
    assert bnm_score(logits) == pytest.approx(norm / 48**0.5, abs=1e-6)


def test_information_of_sure_predictions_is_their_entropy() -> None:
    predicted = torch.tensor([0, 0, 0, 1, 2, 2])
    assert information_score(1e3 * F.one_hot(predicted, 3)) == pytest.approx(mutual_info_score(predicted, predicted))


def test_temperature_sharpens_the_neighborhood() -> None:
    logits = normal(0, 30, 5)
    values = [snd_score(logits, temperature) for temperature in (0.01, 0.05, 1, 100)]
    assert values == sorted(values) and values[-1] == pytest.approx(math.log(29), abs=1e-3)


def test_scores_refuse_what_is_no_matrix() -> None:
    for score in RULES.values():
        for wrong in (torch.zeros(5), torch.zeros(0, 5), torch.zeros(2, 3, 4)):
            with pytest.raises(ValueError):
                score(wrong)
    with pytest.raises(ValueError, match="no neighbors"):
        snd_score(torch.zeros(1, 3))


# Selection, and the oracle beside it


HISTORY = [{"entropy": -2.0, "information": 0.0, "snd": 5.0, "bnm": 0.1},
           {"entropy": -0.5, "information": 1.5, "snd": 3.0, "bnm": 0.9},
           {"entropy": -0.5, "information": 1.0, "snd": 2.0, "bnm": 0.8}]  # fmt: skip


@pytest.mark.parametrize(("rule", "index"), [("last", 2), ("entropy", 1), ("information", 1), ("snd", 0), ("bnm", 1)])
def test_rules_take_the_first_largest(rule: str, index: int) -> None:
    assert select(HISTORY, rule) == Selection(rule, index, False)


def test_select_cannot_see_a_label() -> None:
    """Neither by an argument nor by its name: the one function that takes labels is the oracle."""
    with_labels = [name for name, value in vars(selection).items() if inspect.isfunction(value)
                   and value.__module__ == selection.__name__ and "label" in str(inspect.signature(value))]  # fmt: skip
    assert with_labels == ["oracle"]
    with pytest.raises(ValueError, match="see `oracle`"):
        select(HISTORY, "oracle")
    with_accuracy = [row | {"oracle": value, "accuracy": value} for row, value in zip(HISTORY, (0.9, 0.1, 0.2))]
    for rule in ("oracle", "accuracy"):
        with pytest.raises(ValueError):
            select(with_accuracy, rule)


def test_select_refuses() -> None:
    with pytest.raises(ValueError, match="rule 'best'; there are last, entropy"):
        select(HISTORY, "best")
    for rule in ("last", "bnm"):
        with pytest.raises(ValueError, match="no snapshots"):
            select([], rule)
    for broken in (math.nan, math.inf):
        with pytest.raises(ValueError, match="not finite"):
            select([HISTORY[0], HISTORY[1] | {"snd": broken}], "snd")
        assert select([HISTORY[0], HISTORY[1] | {"snd": broken}], "bnm").index == 1


def test_oracle_takes_the_most_accurate_and_says_what_it_used() -> None:
    logits = [torch.zeros(COUNT, CLASSES), SURE.roll(1, 1), SURE, SURE]
    assert oracle(logits, BALANCED) == Selection("oracle", 2, True)
    assert not any(select([label_free_scores(part) for part in logits], rule).uses_target_labels for rule in ("last", *RULES))


def test_no_rule_tells_right_from_consistently_wrong() -> None:
    right, wrong = label_free_scores(SURE), label_free_scores(SURE.roll(1, 1))
    assert right == pytest.approx(wrong)
    assert accuracy(SURE.argmax(1), BALANCED) == 1 and accuracy(SURE.roll(1, 1).argmax(1), BALANCED) == 0
