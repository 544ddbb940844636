"""Methods that translate: who is reached by what, channels of the source, and what the loop asks."""

from __future__ import annotations

import pytest
import torch

from cdlm.data.batches import DomainBatch
from cdlm.data.domain import Domain, Split
from cdlm.experiments.translation import WAYS, Approach, as_channels, drawings_of, feed_of, make_translator
from cdlm.methods.base import Now, draw_noise
from cdlm.methods.translation import Translation, TranslationConfig, draw_beside, translation_table
from cdlm.settings import Images, SettingError
from cdlm.training.loop import Loop, train

TRAINED = {name: way for name, way in WAYS.items() if way.method}


def model(seed: int = 0, **settings: object) -> Translation:
    torch.manual_seed(seed)
    return Translation(TranslationConfig.of(width=4, depth=2, **settings), Images(3, 32, 1))


def batch(channels: int = 3) -> DomainBatch:
    generator = torch.Generator().manual_seed(0)
    x_s, x_t = (2 * torch.rand(4, channels, 32, 32, generator=generator) - 1 for _ in range(2))
    return DomainBatch(x_s, torch.full((4,), -1), x_t)


def gradients(method: Translation, kept: tuple[str, ...]) -> dict[str, float]:
    """Size of the gradient at parts of the encoder if only some losses are kept."""
    eps = draw_noise(method, 4, torch.Generator().manual_seed(1))
    method.zero_grad()
    before, table = method.config, translation_table(method.config)
    assert set(kept) <= set(table)
    method(batch(), eps, Now(1.0))[0].backward()
    assert method.config is before
    return {name: float(sum(p.grad.abs().sum() for p in part.parameters() if p.grad is not None))
            for name, part in (("h", method.encoder.h), ("decoder", method.decoder))}  # fmt: skip


def test_as_printed_only_interference_and_the_adversary_reach_the_features() -> None:
    """Without them nothing reaches the head of h; the consistency does where it may."""
    silent = {"lambda2": 0.0, "reversal": 0.0}
    assert gradients(model(**silent), ("rec",))["h"] == 0
    assert gradients(model(**silent, consistency_phi=1e-4), ("consistency",))["h"] > 0


def test_the_consistency_leaves_the_decoder_its_weight() -> None:
    assert translation_table(TranslationConfig())["consistency"] == {"theta": 1.0}
    assert translation_table(TranslationConfig(consistency_phi=0.5))["consistency"] == {"theta": 1.0, "phi": 0.5}


@pytest.mark.parametrize("drawn", [1, 3])
@pytest.mark.parametrize("code", ["map", "vector"])
def test_a_decoder_draws_the_channels_of_the_source(code: str, drawn: int) -> None:
    method = model(code=code, drawn=drawn).eval()
    for channels in (1, 3):
        x = torch.zeros(2, channels, 32, 32)
        assert method.translate(x).shape == (2, drawn, 32, 32)
    other = torch.zeros(2, drawn, 32, 32)
    assert draw_beside(method, x, other, torch.zeros(2, method.noise[1])).shape == (2, drawn, 32, 32)


def test_channels_are_repeated_or_dropped() -> None:
    gray = torch.rand(2, 1, 4, 4)
    assert torch.equal(as_channels(as_channels(gray, 3), 1), gray)


def test_noise_varies_a_drawing_and_no_noise_repeats_it() -> None:
    method, x = model().eval(), torch.zeros(2, 1, 32, 32, dtype=torch.uint8)
    assert torch.equal(drawings_of(method, x), drawings_of(method, x))
    first, second = drawings_of(method, x, samples=2)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("settings", [{"side": 7}, {"code": "list"}, {"drawn": 2}, {"sharpness": -1.0}, {"consistency_phi": -1.0}])
def test_settings_are_checked(settings: dict) -> None:
    with pytest.raises(SettingError):
        TranslationConfig.of(**settings)


def domains() -> tuple[Domain, Domain]:
    """Photographs of vertical waves, and their negatives as drawings."""
    generator = torch.Generator().manual_seed(0)
    phase, colors = torch.rand(64, 1, 1, 1, generator=generator) * 6, torch.tensor([1.0, 0.6, 0.3]).view(1, 3, 1, 1)
    waves = (127 * ((torch.arange(32.0) / 3 + phase).sin() * colors + 1)).expand(-1, -1, 32, -1).byte()
    none = torch.full((32,), -1)

    def made(name: str, x: torch.Tensor) -> Domain:
        return Domain(name, name, (), Split(x[:32], none), Split(x[32:], none), "", "")

    return made("photos", waves), made("drawings", negative(waves))


def negative(images: torch.Tensor) -> torch.Tensor:
    return 255 - images.float().mean(1, keepdim=True).byte()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", TRAINED)
def test_every_way_learns_and_draws(name: str, reverse: bool) -> None:
    source, target = domains()[::-1] if reverse else domains()
    method = make_translator(WAYS[name], 4, 32, source.channels, target.channels, seed=0)
    before = [p.clone() for p in method.parameters()]
    log = train(method, *feed_of(WAYS[name], source, target, negative), Loop(3, 0, 4, 3))
    assert log[-1]["step"] == 3
    still = [name for (name, p), old in zip(method.named_parameters(), before) if torch.equal(p, old)]
    assert [name for name in still if not name.startswith("encoder.log_sigma")] == []
    assert drawings_of(method, target.test.images).shape == source.test.images.shape


@pytest.mark.slow
def test_a_network_that_is_told_the_answers_beats_the_mean_image() -> None:
    """Anchors in their order, on images that are easy to translate."""
    source, target = domains()
    way: Approach = WAYS["paired"]
    method = make_translator(way, 4, 32, 3, 1, seed=0)
    train(method, *feed_of(way, source, target, negative), Loop(200, 0, 8, 200))
    truth = source.test.images.float() / 127.5 - 1
    mean = (source.train.images.float() / 127.5 - 1).mean(0)
    told, still = (((x - truth) ** 2).mean() for x in (drawings_of(method, target.test.images), mean))
    assert told < 0.5 * still


def test_the_same_seed_gives_the_same_networks() -> None:
    one, other = (make_translator(WAYS["improved"], 4, 32, 3, 1, seed=5) for _ in range(2))
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters()))
