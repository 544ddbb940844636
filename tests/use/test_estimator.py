"""Methods as estimators of scikit-learn: its own checks, whose labels are read, what counts as images, skada."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch.utils.data import TensorDataset

import cdlm
from cdlm import CDLMAdapter
from cdlm.domains.samples import load_domain
from cdlm.files import RunError
from cdlm.use.estimator import as_bytes, brought_to, laid_out, range_of

MNIST, OPTDIGITS = load_domain("mnist"), load_domain("optdigits")
CHOSEN = torch.arange(0, 4000, 160)                         # 25 images, of all classes
X_S, Y_S, X_T = MNIST.train.images[CHOSEN], MNIST.train.labels[CHOSEN].numpy(), OPTDIGITS.train.images[:25]
QUICK = {"steps": 2, "batch_size": 8, "width": 2}

EXPECTED_FAILURES = {
    "check_classifiers_train": "it wants an accuracy of 0.83 after fit; the checks are made with two steps, which learn nothing",
}


@pytest.fixture(scope="module")
def fitted() -> CDLMAdapter:
    return CDLMAdapter("cdlm", **QUICK).fit(X_S, Y_S, X_t=X_T)


def both() -> tuple[np.ndarray, np.ndarray]:
    """Rows of both domains, and whose they are."""
    return np.concatenate([X_S, X_T]), np.repeat([1, -2], 25)


def weights(adapter: CDLMAdapter) -> torch.Tensor:
    return torch.cat([x.flatten().float() for x in adapter.model_.method.state_dict().values()])


# scikit-learn's own


@parametrize_with_checks([CDLMAdapter("source", **QUICK)], expected_failed_checks=lambda _: EXPECTED_FAILURES, xfail_strict=True)
def test_scikit_learn_finds_an_estimator(estimator: CDLMAdapter, check: object) -> None:
    check(estimator)


def test_settings_are_parameters() -> None:
    adapter = CDLMAdapter("cdlm", steps=5, gamma1=0.5)
    assert adapter.get_params()["gamma1"] == 0.5 and repr(adapter) == "CDLMAdapter(gamma1=0.5, steps=5)"
    other = clone(adapter).set_params(gamma1=0.25, steps=6)
    assert (adapter.get_params()["gamma1"], other.get_params()["gamma1"], other.steps) == (0.5, 0.25, 6)
    with pytest.raises(ValueError, match="cdlm has no setting 'gama1'; it has: gamma1"):
        adapter.set_params(gama1=1.0)
    assert "gama1" not in adapter.get_params()


@pytest.mark.slow
def test_the_package_does_not_import_it_before_it_is_asked_for() -> None:
    script = "import sys, cdlm; assert 'sklearn' not in sys.modules and 'torch' not in sys.modules; cdlm.CDLMAdapter(); print('ok')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.stdout == "ok\n", done.stderr


# Who is who


def test_target_labels_are_never_read() -> None:
    X, sample_domain = both()
    labels = [np.concatenate([Y_S, rest]) for rest in (np.full(25, -1), np.arange(25) + 77, np.full(25, np.nan))]
    one, other, third = (CDLMAdapter("plain", **QUICK).fit(X, y, sample_domain) for y in labels)
    assert torch.equal(weights(one), weights(other)) and torch.equal(weights(one), weights(third))
    assert list(one.classes_) == list(other.classes_) == list(range(10))


def test_both_conventions_learn_the_same_whatever_the_order() -> None:
    X, sample_domain = both()
    y = np.concatenate([Y_S, np.full(25, -1)])
    mixed = np.arange(50).reshape(2, 25).T.flatten()        # one of each in turn: their order within a domain stays
    one = CDLMAdapter("dann", **QUICK).fit(X_S, Y_S, X_t=X_T)
    other = CDLMAdapter("dann", **QUICK).fit(X[mixed], y[mixed], sample_domain=sample_domain[mixed])
    assert torch.equal(weights(one), weights(other))
    assert not torch.equal(weights(one), weights(CDLMAdapter("dann", **QUICK).fit(X_S, Y_S)))


def test_seeds_repeat_and_differ_and_leave_other_random_numbers_alone() -> None:
    state = torch.get_rng_state()
    by = {name: weights(CDLMAdapter("source", **QUICK, **how).fit(X_S, Y_S)) for name, how in {
        "0": {}, "again": {"random_state": 0}, "seed": {"seed": 0, "random_state": 5}, "1": {"random_state": 1},
        "state": {"random_state": np.random.RandomState(3)}}.items()}
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(by["0"], by["again"]) and torch.equal(by["0"], by["seed"])
    assert not torch.equal(by["0"], by["1"]) and not torch.equal(by["0"], by["state"])


def test_images_of_a_domain_are_read_by_its_statistics() -> None:
    X, sample_domain = both()
    adapter = CDLMAdapter("plain", **QUICK, domain_statistics=True).fit(X_S, Y_S, X_t=X_T)
    mixed, as_target = adapter.predict_proba(X, sample_domain), adapter.predict_proba(X)
    assert np.allclose(mixed[25:], as_target[25:], atol=1e-6) and not np.allclose(mixed[:25], as_target[:25], atol=1e-6)


@pytest.mark.parametrize("how, message", [
    ({"sample_domain": np.ones(24)}, "a number for each of 25 rows"),
    ({"sample_domain": np.zeros(25)}, "positive for source rows and negative for target rows"),
    ({"sample_domain": -np.ones(25)}, "without source there are no labels"),
    ({"sample_domain": np.ones(25), "X_t": X_T}, "not both"),
    ({"X_t": X_T.repeat(1, 2, 1, 1)}, r"must be \(H, W\), \(C, H, W\), \(H, W, C\) or flat"),
])
def test_domains_that_cannot_be_are_refused(how: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CDLMAdapter("source", **QUICK).fit(X_S, Y_S, **how)


@pytest.mark.parametrize("how, message", [
    ({"method": "cdml"}, "unknown method 'cdml'; known: cdlm"),
    ({"gama1": 1.0}, "has no setting 'gama1'"),
    ({"steps": 0}, "steps is 0; it must be from 1"),
    ({"path": "x_s"}, "path is 'x_s'; of cdlm it must be one of x_t, x_hat_ts, x_tilde_t, h"),
    ({"method": "improved"}, "self-training needs target images changed strongly"),
    ({"augment": {"turn": 5.0}}, "images cannot be augmented by 'turn'"),
])
def test_parameters_that_cannot_be_are_refused_in_one_line(how: dict, message: str) -> None:
    with pytest.raises((ValueError, RunError), match=message) as found:
        CDLMAdapter(**{**QUICK, **how}).fit(X_S, Y_S)
    assert "\n" not in str(found.value)


# What counts as images


@pytest.mark.parametrize("change", [
    lambda x: x.numpy(), lambda x: x[:, 0], lambda x: x.flatten(1), lambda x: x.permute(0, 2, 3, 1), lambda x: x / 255,
    lambda x: x.long().numpy(), lambda x: (x / 255).flatten(1).tolist(), lambda x: (x / 255).double().numpy(),
], ids=["array", "(N, H, W)", "flat", "(N, H, W, C)", "shares", "int64", "lists", "doubles"])
def test_every_form_of_the_same_images_is_read_alike(fitted: CDLMAdapter, change: object) -> None:
    again = CDLMAdapter("cdlm", **QUICK).fit(change(X_S), Y_S, X_t=change(X_T))
    assert torch.equal(weights(again), weights(fitted))
    if not isinstance(change(X_T), list):
        assert np.array_equal(fitted.predict(change(X_T)), fitted.predict(X_T))


def test_measurements_are_scaled_by_what_was_learned_from() -> None:
    low, high = np.array([[-2.0, 0, 2, 1]]), np.array([[0.0, 6, 2, 2]])
    span = range_of([low, high])
    assert span == (-2, 6) and as_bytes(low, span).tolist() == [[0, 64, 128, 96]]
    assert as_bytes(np.array([[-9.0, 9]]), span).tolist() == [[0, 255]]
    assert range_of([np.zeros((2, 2)), np.ones((2, 2), np.uint8)]) is None
    assert laid_out(np.arange(1, 6, dtype=np.uint8)[None]).tolist() == [[[[1, 2, 3], [4, 5, 0], [0, 0, 0]]]]


def test_sizes_and_colors_are_brought_together() -> None:
    color, big = X_T.repeat(1, 3, 1, 1), torch.nn.functional.interpolate(X_T.float(), (40, 30)).byte()
    adapter = CDLMAdapter("source", **QUICK).fit(X_S, Y_S, X_t=color)
    assert adapter.model_.shape == (3, 28, 28)
    assert np.allclose(adapter.predict_proba(X_T), adapter.predict_proba(color), atol=1e-6)
    assert adapter.predict(big).shape == (25,)
    assert tuple(brought_to(big.numpy(), 32).shape) == (25, 1, 32, 32)
    assert CDLMAdapter("source", **QUICK, size=32).fit(X_S, Y_S).model_.shape == (1, 32, 32)
    gray = CDLMAdapter("source", **QUICK).fit(X_S, Y_S)
    with pytest.raises(ValueError, match="X has 3 colors, and fit saw 1"):
        gray.predict(color)
    with pytest.raises(ValueError, match="fit saw images, .* these go from -1 to 1"):
        gray.predict(X_T / 127.5 - 1)


def test_folders_datasets_and_domains_bring_their_labels(tmp_path: Path) -> None:
    for number, (image, label) in enumerate(zip(X_S, Y_S)):
        (tmp_path / f"digit {label}").mkdir(exist_ok=True)
        Image.fromarray(image[0].numpy()).save(tmp_path / f"digit {label}/{number}.png")
    folder = CDLMAdapter("source", **QUICK).fit(tmp_path)
    assert list(folder.classes_) == [f"digit {number}" for number in range(10)]
    assert 0 <= folder.score(tmp_path) <= 1 and folder.predict(X_T).dtype.kind == "U"
    dataset = CDLMAdapter("source", **QUICK).fit(TensorDataset(X_S, torch.from_numpy(Y_S)), X_t=TensorDataset(X_T, torch.zeros(25)))
    assert torch.equal(weights(dataset), weights(CDLMAdapter("source", **QUICK).fit(X_S, Y_S, X_t=X_T)))
    assert list(CDLMAdapter("source", **QUICK).fit(MNIST, X_t=OPTDIGITS).classes_) == list(MNIST.classes)


# What it gives


def test_answers_features_and_drawings(fitted: CDLMAdapter) -> None:
    probabilities = fitted.predict_proba(X_T)
    assert probabilities.shape == (25, 10) and np.allclose(probabilities.sum(1), 1)
    assert np.array_equal(fitted.classes_[probabilities.argmax(1)], fitted.predict(X_T))
    assert fitted.transform(X_T).shape == (25, 32) and len(fitted.get_feature_names_out()) == 32
    mean, noisy = fitted.translate(X_T), fitted.translate(X_T, random_state=1)
    assert mean.shape == (25, 1, 28, 28) and 0 <= mean.min() <= mean.max() <= 1
    assert np.array_equal(noisy, fitted.translate(X_T, random_state=1)) and not np.allclose(noisy, mean, atol=1e-6)
    assert np.allclose(fitted.translate(X_T[3:4]), mean[3:4], atol=1e-5)          # of the image alone
    with pytest.raises(RunError, match="source, which draws no images from modulated codes"):
        CDLMAdapter("source", **QUICK).fit(X_S, Y_S).translate(X_T)


@pytest.mark.parametrize("path", ["x_t", "x_hat_ts", "x_tilde_t", "h"])
def test_every_path_can_be_read_and_pickled(path: str) -> None:
    adapter = CDLMAdapter("cdlm", **QUICK, path=path).fit(X_S, Y_S, X_t=X_T)
    again = pickle.loads(pickle.dumps(adapter))
    assert np.array_equal(again.predict_proba(X_T), adapter.predict_proba(X_T))
    assert len(adapter.model_.source.train) == (25 if path in ("h", "x_hat_ts") else 0)


# Among others


def test_it_stands_in_a_pipeline_and_is_cross_validated() -> None:
    X, sample_domain = both()
    y = np.concatenate([Y_S, np.full(25, -1)])
    pipeline = make_pipeline(FunctionTransformer(lambda x: x / 255.0), CDLMAdapter("source", **QUICK))
    assert pipeline.fit(X_S, Y_S).predict(X_T).shape == (25,)
    found = cross_val_score(CDLMAdapter("source", **QUICK), X, y, params={"sample_domain": sample_domain}, cv=2,
                            scoring=lambda estimator, X, y: estimator.predict_proba(X[y == -1]).max())
    assert len(found) == 2 and np.isfinite(found).all()


SKADA = """
import numpy as np
from cdlm import CDLMAdapter
from sklearn.model_selection import cross_val_score
from skada import make_da_pipeline
from skada.metrics import PredictionEntropyScorer, SoftNeighborhoodDensity
from skada.model_selection import SourceTargetShuffleSplit
from sklearn.preprocessing import StandardScaler

draws = np.random.default_rng(0)
X = np.concatenate([draws.normal(size=(60, 5)), draws.normal(1, 1, size=(60, 5))])
truth = (X[:, 0] > X[:, 1]).astype(int)
sample_domain = np.repeat([1, -2], 60)
adapter = CDLMAdapter("plain", steps=3, batch_size=8, width=2, reversal=0.1)
pipelines = {"alone": make_da_pipeline(adapter), "scaled": make_da_pipeline(StandardScaler(), adapter)}
for name, pipeline in pipelines.items():
    for scorer in (PredictionEntropyScorer(), SoftNeighborhoodDensity()):
        found = cross_val_score(pipeline, X, truth, params={"sample_domain": sample_domain}, scoring=scorer,
                                cv=SourceTargetShuffleSplit(n_splits=2, random_state=0), error_score="raise")
        assert found.shape == (2,) and np.isfinite(found).all()
answers = []
for labels in (truth, np.where(sample_domain > 0, truth, 1 - truth)):
    pipeline = make_da_pipeline(adapter).fit(X, labels.copy(), sample_domain=sample_domain)
    answers.append(pipeline.predict_proba(X[60:], sample_domain=sample_domain[60:]))
assert np.array_equal(*answers)
print("ok")
"""


def test_it_is_cross_validated_by_skada_without_labels() -> None:
    """In a process of its own, since skada switches on the routing of metadata for all of scikit-learn."""
    pytest.importorskip("skada", reason='skada is not installed: pip install "cdlm[rivals]"')
    done = subprocess.run([sys.executable, "-c", SKADA], capture_output=True, text=True, timeout=600)
    assert done.stdout == "ok\n", done.stderr[-3000:]


def test_it_is_a_name_of_the_package() -> None:
    assert cdlm.CDLMAdapter is CDLMAdapter and "CDLMAdapter" in dir(cdlm)
