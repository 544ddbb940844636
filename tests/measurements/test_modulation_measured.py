"""What measures a modulated code on a trained encoder, its record, and the sliders of its chapter."""

from __future__ import annotations

import json
import math
from pathlib import Path

import nbformat
import pytest
import torch
from conftest import ROOT
from folders import without_checksums
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

import chapters
from cdlm.domains.samples import load_domain
from cdlm.evaluation.readouts import encode_images
from cdlm.evaluation.statistics import QUANTILE_LEVELS, jarque_bera, regress, rounded
from cdlm.files import RunError
from cdlm.measurements.moments import mean_gaps, measure_modulation, measure_moments, sampled_moments, variance_parts
from cdlm.methods.registry import build_config
from cdlm.model.modulation import modulate
from cdlm.model.networks import Encoded, Encoder
from cdlm.runs.record import read_record
from cdlm.runs.run import data_checksums, run, same_data
from cdlm.runs.spec import RunSpec
from cdlm.settings import Images, flat

DOUBLE = torch.float64


def images(seed: int, count: int = 60, latent: int = 3) -> Encoded:
    generator = torch.Generator().manual_seed(seed)
    mu, sigma, h = torch.randn(3, count, latent, generator=generator, dtype=DOUBLE)
    return Encoded(mu + seed, (sigma / 2).exp(), torch.sigmoid(h + mu))


# The tools


def test_images_are_encoded_in_parts_and_in_double_precision() -> None:
    torch.manual_seed(0)
    encoder = Encoder(latent=5, width=4)
    bytes_ = torch.randint(0, 256, (7, 1, 28, 28), dtype=torch.uint8)
    whole, parts = encode_images(encoder, bytes_), encode_images(encoder, bytes_, batch_size=3)
    for a, b, c in zip(whole, parts, encoder(bytes_.float() / 127.5 - 1)):
        assert a.shape == (7, 5) and a.dtype == DOUBLE and not a.requires_grad
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(a, c.detach().double(), rtol=1e-4, atol=1e-5)


def test_jarque_bera_against_numbers_worked_out_by_hand() -> None:
    """A fair coin has skewness 0 and kurtosis 1; one column each of 0, 0, 0, 1 has mean 1/4 and 3/16 as variance."""
    coin = torch.tensor([[0.0, 0], [1, 0], [0, 0], [1, 1]], dtype=DOUBLE)
    skewness, kurtosis = (3 / 32) / (3 / 16) ** 1.5, (3 * (1 / 4) ** 4 + (3 / 4) ** 4) / 4 / (3 / 16) ** 2
    expected = [4 / 6 * (1 - 3) ** 2 / 4, 4 / 6 * (skewness**2 + (kurtosis - 3) ** 2 / 4)]
    torch.testing.assert_close(jarque_bera(coin), torch.tensor(expected, dtype=DOUBLE))
    assert jarque_bera(torch.ones(5, 1)).isnan().all()


def test_jarque_bera_of_normal_columns_exceeds_its_quantile_as_often_as_it_says() -> None:
    x = torch.randn(2000, 2000, generator=torch.Generator().manual_seed(0))
    share = (jarque_bera(x) > -2 * math.log(0.1)).double().mean().item()
    assert abs(share - 0.1) < 4 * (0.1 * 0.9 / 2000) ** 0.5 + 0.005         # asymptotic, hence the allowance


def test_regression_against_least_squares_and_corrcoef() -> None:
    s = images(1)
    slope, correlation = regress(s.h, s.mu)
    for i in range(3):
        design = torch.stack([s.mu[:, i], torch.ones(60, dtype=DOUBLE)], 1)
        torch.testing.assert_close(slope[i], torch.linalg.lstsq(design, s.h[:, i : i + 1]).solution[0, 0])
        torch.testing.assert_close(correlation[i], torch.corrcoef(torch.stack([s.mu[:, i], s.h[:, i]]))[0, 1])
    torch.testing.assert_close(regress(-s.h, s.mu)[1], -correlation)


def test_variance_parts_add_up_to_the_variance_of_all_pairs() -> None:
    """All pairs are enumerated, with a noise of two values: no sampling error."""
    s, t = images(1, 20), images(2, 15)
    noise = torch.tensor([-1.0, 1.0], dtype=DOUBLE)
    z = modulate(s.mu[:, None, None], s.sigma[:, None, None], t.h[None, :, None], noise[:, None], 0.8, 0.3)      # (20, 15, 2, 3)
    parts = variance_parts(s, t.h, 0.8, 0.3)
    torch.testing.assert_close(sum(parts), z.reshape(-1, 3).var(0, correction=0))
    torch.testing.assert_close(parts.own, z.mean((1, 2)).var(0, correction=0))
    torch.testing.assert_close(parts.noise, z.var(2, correction=0).mean((0, 1)))
    constant = variance_parts(s, t.h[:1].expand(15, 3))
    assert not constant.other.any() and (constant.noise > 0).all()
    torch.testing.assert_close(constant.noise, 0.01 * s.sigma.square().mean(0))


def test_sampled_moments_are_those_of_the_enumeration() -> None:
    s, t = images(1, 5), images(2, 15)
    mean, deviation = sampled_moments(s, t.h, 0.8, 0.3, 20_000, torch.Generator().manual_seed(0))
    exact_mean = s.mu + 0.8 * s.sigma * t.h.mean(0)
    exact = s.sigma * (0.8**2 * t.h.var(0, correction=0) + 0.3**2).sqrt()
    assert mean.shape == deviation.shape == (5, 3)
    assert ((mean - exact_mean).abs() < 5 * exact / 20_000**0.5).all()
    assert ((deviation / exact - 1).abs() < 5 / 20_000**0.5).all()


def test_gaps_of_made_up_domains() -> None:
    """With h = mu and sigma = 1 the gap is 1 - gamma1 times what it was, of domains and of pairs: Eq. 5 is then exact."""
    mu_s, mu_t = images(0).mu, images(2).mu
    s, t = (Encoded(mu, torch.ones_like(mu), mu) for mu in (mu_s, mu_t))
    for gamma1 in (0.0, 0.4, 1.0, 1.6):
        gap = mean_gaps(s, t, gamma1, torch.Generator().manual_seed(0), pairs=200)
        for kind in ("domains", "pairs"):
            torch.testing.assert_close(gap[f"{kind}_after"], abs(1 - gamma1) * gap[f"{kind}_before"])
    torch.testing.assert_close(gap["domains_before"], (mu_s.mean(0) - mu_t.mean(0)).norm())
    torch.testing.assert_close(gap["features"], gap["domains_before"])
    alike = Encoded(mu_t, t.sigma, s.h)
    torch.testing.assert_close(mean_gaps(s, alike, 1.0, torch.Generator(), 10)["domains_after"], gap["domains_before"])


def test_rounding() -> None:
    assert rounded(torch.tensor([1 / 3, 2e-9])) == [0.333333, 2e-9]
    assert rounded({"a": torch.tensor(123456.7), "b": torch.tensor([[0.5]])}) == {"a": 123457.0, "b": [[0.5]]}


def test_the_short_forms_have_no_error_where_their_assumptions_hold() -> None:
    """sigma = 1, and features with the mean of mu_t and the deviation 1; no noise. And the exact ones never have."""
    t = images(1, 200)
    h = (t.mu - t.mu.mean(0)) / t.mu.std(0, correction=0) + t.mu.mean(0)
    own = Encoded(images(2, 50).mu, torch.ones(50, 3, dtype=DOUBLE), h[:50])
    ideal = measure_modulation(own, Encoded(t.mu, torch.ones_like(t.mu), h), 1.0, 0.0, draws=2000)
    other = measure_modulation(images(3, 50), t, 1.0, 0.5, draws=2000)
    for name in ("eq_3", "eq_5"):
        assert ideal["mean_error"][name] < 0.03
    for name in ("eq_4", "eq_6"):
        assert abs(ideal["deviation_ratio"][name] - 1) < 0.01
    assert other["mean_error"]["eq_3"] < 0.03 and abs(other["deviation_ratio"]["eq_4"] - 1) < 0.01
    assert other["mean_error"]["eq_5"] > 0.3 and abs(other["deviation_ratio"]["eq_6"] - 1) > 0.1
    assert len(other["h_quantiles"]) == len(QUANTILE_LEVELS) and len(other["h_quantiles"][0]) == 3
    assert other == measure_modulation(images(3, 50), t, 1.0, 0.5, draws=2000)          # seeded


# The record


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    small = {"latent": 4, "width": 4}
    for seed in (1, 0):
        run(RunSpec("cdlm", "mnist", "optdigits", seed, steps=2, batch_size=4, settings=small), folder / str(seed))
    run(RunSpec("source", "mnist", "optdigits", steps=1, batch_size=4), folder / "source")
    return folder


def test_runs_are_measured_in_the_order_of_their_seeds(stored: Path) -> None:
    found = measure_moments([stored / "1", stored / "0"], draws=10)
    assert [one["seed"] for one in found["runs"]] == [0, 1] and found["draws"] == 10
    assert len(found["runs"][0]["mu_h"]) == 4 and found["config"]["latent"] == 4
    for one in found["runs"]:
        metrics = json.loads((stored / str(one["seed"]) / "metrics.json").read_text())
        assert one["trained"] == {name: metrics[name] for name in ("target_accuracy", "provenance")}
    assert json.loads(json.dumps(found)) == found


def test_what_cannot_be_measured_is_refused(stored: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not of source"):
        measure_moments([stored / "source"])
    with pytest.raises(RunError, match="same seed"):
        measure_moments([stored / "1", stored / "1"])
    with pytest.raises(RunError, match="is this a run folder"):
        measure_moments([tmp_path])
    for file in (stored / "0").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    without_checksums(tmp_path, metrics={"data": metrics["data"] | {"target/test": "0" * 64}})
    with pytest.raises(RunError, match="the data are not those"):
        measure_moments([tmp_path])


@pytest.fixture(scope="module")
def record() -> dict:
    return read_record("measurements/moments_mnist-optdigits", ROOT / "book/results")


def test_the_record_says_where_it_comes_from(record: dict) -> None:
    spec = record["spec"]
    assert (spec["method"], spec["source"], spec["target"], record["split"]) == ("cdlm", "mnist", "optdigits", "test")
    config = json.loads(json.dumps(flat(build_config("cdlm", spec["settings"])) | flat(Images())))
    assert {name: config[name] for name in record["config"]} == record["config"]        # fields added since have their defaults
    assert same_data(record["data"], data_checksums(load_domain("mnist"), load_domain("optdigits")))
    assert [one["seed"] for one in record["runs"]] == [0, 1, 2]
    for origin in (record["provenance"], *(one["trained"]["provenance"] for one in record["runs"])):
        assert {"python", "packages", "code", "revision", "hardware", "threads"} <= set(origin)


def test_what_the_chapter_says_of_the_record(record: dict) -> None:
    """Its sentences, seed by seed."""
    for one in record["runs"]:
        latent = record["config"]["latent"]
        assert sum(value > -2 * math.log(0.01) for value in one["jarque_bera"]) >= latent - 1           # not normal
        assert all(0 < m < 1 for m in one["mu_h"]) and all(0 < d <= 0.5 for d in one["sigma_h"])
        assert all(h < t for h, t in zip(one["sigma_h"], one["sigma_t"]))                               # below the diagonal
        assert sum(r > 0.5 for r in one["correlation"]) > 0.75 * latent and max(one["slope"]) < 0.6     # correlated, but flat
        assert one["mean_error"]["eq_3"] < 2 * record["draws"] ** -0.5 < 1 < one["mean_error"]["eq_5"]
        assert abs(one["deviation_ratio"]["eq_4"] - 1) < 0.01 and one["deviation_ratio"]["eq_6"] > 2
        own, other, noise = (sum(one["variance"][cause]) for cause in ("own", "other", "noise"))
        assert own > 0.9 * (own + other + noise) and other > 2 * noise
        gap = one["gap"]
        assert 0.9 < gap["domains_after"] / gap["domains_before"] < 1.1
        assert 0.8 < gap["pairs_after"] / gap["pairs_before"] < 0.95
        assert gap["features"] < 0.25 * math.hypot(*one["mu_h"])


# The sliders


@pytest.mark.slow
def test_moving_a_slider_redraws() -> None:
    """In a kernel, with a client that keeps the state of widgets as JupyterLab does: another drawing for another value."""
    cells = [cell for cell in chapters.read_text(ROOT / "book/src/51_moments.md").cells if cell.cell_type == "code"]
    last = next(number for number, cell in enumerate(cells) if "FloatSlider" in cell.source)
    shows = "drawn = [o['data'] for o in sliders.out.outputs]\nprint(len(drawn), hash(str(drawn)))"
    sources = [cell.source for cell in cells[: last + 1]]
    sources += [shows, "sliders.children[0].value = 1.5", shows, "sliders.children[1].value = 0.8", shows]
    notebook = new_notebook(cells=[new_code_cell(source) for source in sources], metadata={"kernelspec": chapters.KERNEL})
    patient = {"timeout": 1800, "iopub_timeout": 600, "startup_timeout": 600}
    ran = NotebookClient(notebook, **patient, resources={"metadata": {"path": str(ROOT / "book")}}).execute()
    seen = [cell.outputs[0].text.split() for cell in ran.cells if cell.source == shows]
    assert [count for count, _ in seen] == ["1", "1", "1"] and len({drawing for _, drawing in seen}) == 3
    assert nbformat.validate(ran) is None
