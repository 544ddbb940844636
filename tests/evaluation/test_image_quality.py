"""SSIM, MSE, PSNR, variety and blur, against cases by hand and scikit-image."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from cdlm.evaluation.translation import (
    detail_kept,
    gradient_features,
    mse_of_each,
    psnr_of_each,
    quality,
    radial_power,
    ssim_of_each,
    variety,
)


def pair(count: int = 3, channels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    truth = 2 * torch.rand(count, channels, 16, 16, generator=generator) - 1
    return (truth + 0.3 * torch.randn(truth.shape, generator=generator)).clamp(-1, 1), truth


def test_each_image_has_the_numbers_of_scikit_image() -> None:
    drawn, truth = pair()
    for i in range(3):
        a, b = (((x[i] + 1) / 2).double().numpy() for x in (drawn, truth))
        assert mse_of_each(drawn, truth)[i] == pytest.approx(mean_squared_error(b, a), rel=1e-6)
        assert psnr_of_each(drawn, truth)[i] == pytest.approx(peak_signal_noise_ratio(b, a, data_range=1), rel=1e-6)
        by_channel = [structural_similarity(p, q, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
                      for p, q in zip(a, b)]  # fmt: skip
        assert ssim_of_each(drawn, truth)[i] == pytest.approx(np.mean(by_channel), rel=1e-6)


def test_constant_images_leave_the_first_factor() -> None:
    dark, light = (torch.full((1, 1, 16, 16), x) for x in (-0.5, 0.5))
    assert ssim_of_each(dark, light).item() == pytest.approx((2 * 0.25 * 0.75 + 1e-4) / (0.25**2 + 0.75**2 + 1e-4))
    assert mse_of_each(dark, light).item() == 0.25
    assert psnr_of_each(dark, light).item() == pytest.approx(-10 * math.log10(0.25))


def test_an_image_is_itself() -> None:
    _, truth = pair()
    assert ssim_of_each(truth, truth).tolist() == pytest.approx([1, 1, 1])
    assert mse_of_each(truth, truth).tolist() == [0, 0, 0] and psnr_of_each(truth, truth).isinf().all()


def test_the_mean_of_psnrs_is_above_the_psnr_of_the_mean() -> None:
    drawn, truth = pair()
    drawn[0] = truth[0] + 0.01
    found = quality(drawn, truth)
    assert found["psnr"] > found["psnr_of_mean"] + 1
    assert found["psnr_of_mean"] == pytest.approx(-10 * math.log10(found["mse"]))


@pytest.mark.parametrize("measure", [mse_of_each, psnr_of_each, ssim_of_each, quality])
def test_what_is_no_pair_is_refused(measure) -> None:
    drawn, truth = pair()
    with pytest.raises(ValueError, match="pairs"):
        measure(drawn[:, :1], truth)


def test_variety_of_known_drawings() -> None:
    truth = torch.zeros(2, 1, 8, 8)
    same = truth.expand(3, -1, -1, -1, -1) + 0.2
    assert variety(same, truth).among == pytest.approx(0) and variety(same, truth).to_truth == pytest.approx(0.1)
    two = torch.stack([truth + 0.2, truth - 0.2])
    found = variety(two, truth)  # the two differ by 0.2 on a scale from 0 to 1, and each is 0.1 from the truth
    assert (found.among, found.to_truth) == pytest.approx((0.2, 0.1))


def test_gradients_forgive_brightness() -> None:
    _, truth = pair(channels=1)
    found = variety(torch.stack([truth, truth + 0.2]), truth, gradient_features)
    assert found.among < 1e-6 < variety(torch.stack([truth, truth + 0.2]), truth).among


def test_power_of_a_wave_and_of_noise() -> None:
    wave = (2 * math.pi * torch.arange(64.0) / 8).sin().expand(1, 1, 64, 64)
    power = radial_power(wave + 0.5)
    assert power.argmax() == 4 and power[4] / power.sum() > 0.999
    noise = torch.randn(50, 2, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(radial_power(noise), torch.ones(16, dtype=torch.float64), atol=0.1, rtol=0)


def test_a_blurred_image_keeps_less_detail() -> None:
    truth = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    blurred = torch.nn.functional.avg_pool2d(truth, 3, 1, 1)
    assert detail_kept(truth, truth) == pytest.approx(1) and detail_kept(blurred, truth) < 0.3
    assert detail_kept(0.5 * truth, truth) == pytest.approx(0.25)
