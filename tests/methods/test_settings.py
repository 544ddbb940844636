"""Settings: checked when they are made, flat on disk, and each of them with a reader."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, fields
from functools import cache
from typing import Literal, get_args, get_origin

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdlm.data.batches import DomainBatch
from cdlm.files import RunError
from cdlm.methods.cdlm import CDLMConfig, Weights
from cdlm.methods.dann import DANNConfig
from cdlm.methods.improved import ImprovedConfig
from cdlm.methods.mcd import MCDConfig
from cdlm.methods.plain import PlainConfig
from cdlm.methods.registry import METHODS, build_config
from cdlm.methods.source import SourceConfig
from cdlm.settings import Count, Images, Settings, Span, flat, from_flat, kinds_of, refusal, with_flat, words_of
from cdlm.training.engine import Trainer

CONFIGS = [config for _, config in METHODS.values()]


def leaves(cls: type[Settings]) -> dict[str, object]:
    """The annotation of each setting by name, those of the groups among them."""
    found = {}
    for name, kind in kinds_of(cls).items():
        is_group = isinstance(kind, type) and issubclass(kind, Settings)
        found |= leaves(kind) if is_group else {name: kind}
    return found


# Checked when they are made


@pytest.mark.parametrize("config", [*CONFIGS, Images])
def test_defaults_are_allowed_and_cannot_be_changed(config: type[Settings]) -> None:
    made = config()
    assert all(not refusal(kind, flat(made)[name]) for name, kind in leaves(config).items())
    with pytest.raises(FrozenInstanceError):
        setattr(made, fields(made)[0].name, None)


UNGROUPED = "{} channels cannot be normalized in {} equal groups; choose a width that is a multiple of 16"
POINT = "kl={} needs {}: without a deviation a code is a point, its divergence infinite"


@pytest.mark.parametrize("config, change, words", [
    (CDLMConfig, {"lr_phi": float("nan")}, "lr_phi is nan; it must be finite, and at least 0"),
    (CDLMConfig, {"lr_theta": float("inf")}, "lr_theta is inf; it must be finite, and at least 0"),
    (CDLMConfig, {"lr_theta": -1e-3}, "lr_theta is -0.001; it must be finite, and at least 0"),
    (CDLMConfig, {"gamma1": float("inf")}, "gamma1 is inf; it must be finite"),
    (CDLMConfig, {"momentum": 1.0}, "momentum is 1.0; it must be from 0 to below 1"),
    (DANNConfig, {"momentum": -0.1}, "momentum is -0.1; it must be from 0 to below 1"),
    (ImprovedConfig, {"confidence": 1.1}, "confidence is 1.1; it must be from 0 to 1"),
    (PlainConfig, {"width": 0}, "width is 0; it must be from 1 to 512"),
    (SourceConfig, {"width": 2.0}, "width is 2.0; it must be of type int"),
    (CDLMConfig, {"latent": True}, "latent is True; it must be of type int"),
    (CDLMConfig, {"warm_up": 1}, "warm_up is 1; it must be of type bool"),
    (CDLMConfig, {"gamma1": "much"}, "gamma1 is 'much'; it must be of type float"),
    (CDLMConfig, {"kl": "none"}, "kl is 'none'; it must be one of base, conditional, marginal, simplified"),
    (CDLMConfig, {"kl": ["base"]}, "kl is ['base']; it must be one of base, conditional, marginal, simplified"),
    (PlainConfig, {"normalization": "domain"}, "normalization is 'domain'; it must be one of group, batch, none"),
    (DANNConfig, {"alignment": None}, "alignment is None; it must be one of adversarial, coral, mmd"),
    (CDLMConfig, {"latent": 10**9}, "latent is 1000000000; it must be from 1 to 4096"),
    (DANNConfig, {"hidden": 0}, "hidden is 0; it must be from 1 to 65536"),
    (SourceConfig, {"lr": 10**400}, f"lr is {str(10**400)[:60]}...; it must be finite, and at least 0"),
    (CDLMConfig, {"gamma1": -(10**5000)}, "gamma1 is a number of thousands of digits; it must be finite"),
    (CDLMConfig, {"kl": "x\n" * 999},
     "kl is " + repr("x\n" * 999)[:60] + "...; it must be one of base, conditional, marginal, simplified"),
    (CDLMConfig, {"tap": "conv9"}, "tap is 'conv9'; it must be one of conv1, conv2, conv3, conv4, conv5, last"),
    (CDLMConfig, {"tap": "conv2", "features": "pca"},
     "tap is 'conv2', but features=\"pca\" reads the image, not a convolution; leave tap at \"last\""),
    (CDLMConfig, {"width": 14}, UNGROUPED.format(56, 3)), (SourceConfig, {"width": 25}, UNGROUPED.format(50, 3)),
    (ImprovedConfig, {"width": 14, "domain_statistics": False}, UNGROUPED.format(56, 3)),
    (PlainConfig, {"width": 7}, UNGROUPED.format(56, 3)), (DANNConfig, {"width": 25}, UNGROUPED.format(50, 3)),
    (MCDConfig, {"width": 25}, UNGROUPED.format(50, 3)),
    (CDLMConfig, {"kl": "conditional", "gamma2": 0.0}, POINT.format("conditional", "gamma2 > 0")),
    (CDLMConfig, {"kl": "conditional", "gamma2": -0.1}, POINT.format("conditional", "gamma2 > 0")),
    (CDLMConfig, {"kl": "marginal", "gamma1": 0.0, "gamma2": 0.0}, POINT.format("marginal", "gamma1 or gamma2 other than 0")),
    (CDLMConfig, {"kl": "simplified", "gamma1": 0.0}, POINT.format("simplified", "gamma1 > 0")),
    (ImprovedConfig, {"kl": "simplified", "gamma1": -1}, POINT.format("simplified", "gamma1 > 0")),
    (CDLMConfig, {"channels": 3}, "channels is no setting: channels, size and classes follow from the images"),
])  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(config: type[Settings], change: dict, words: str) -> None:
    with pytest.raises(ValueError) as error:
        config.of(**change)
    assert str(error.value) == words
    with pytest.raises(ValueError) as again:
        config().but(**change)
    assert str(again.value) == words
    with pytest.raises(RunError) as told:
        build_config(next(name for name, (_, kind) in METHODS.items() if kind is config), change)
    assert str(told.value) == words, "a program reads what somebody at the command line does"


def test_images_are_checked_too() -> None:
    assert Images() == Images(1, 28, 10)
    for change, words in (((1, 30), "size is 30; it must be one of 28, 32, 64"), ((0,), "channels is 0"), ((1, 28, -1), "classes")):
        with pytest.raises(ValueError, match=words):
            Images(*change)


def test_a_whole_number_will_do_for_a_number() -> None:
    assert CDLMConfig.of(gamma1=1) == CDLMConfig() and SourceConfig(lr=1).lr == 1


def test_a_group_is_a_group() -> None:
    for wrong in (0.5, {"gamma1": 0.5}, None):
        with pytest.raises(ValueError, match="weights is .*; it must be of type Weights"):
            CDLMConfig(weights=wrong)
    with pytest.raises(TypeError, match="gamma1"):
        CDLMConfig(gamma1=0.5)                                              # that is CDLMConfig.of(gamma1=0.5)


@given(st.floats(allow_nan=True), st.floats(-10, 10), st.floats(0, 10), st.booleans())
def test_a_span_holds_what_lies_in_it(value: float, low: float, width: float, is_open: bool) -> None:
    span = Span(low, low + width, is_open)
    assert (value in span) == (low <= value < low + width or (value == low + width and not is_open))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("width", range(1, 40))
def test_a_width_is_refused_just_where_its_networks_cannot_be_made(method: str, width: int) -> None:
    """For images of 28 pixels; larger ones have one convolution more, and say so when the networks are made."""
    kind, config = METHODS[method]
    for more in ({}, {"normalization": "batch"}, {"domain_statistics": False}):
        if not more.keys() <= flat(config()).keys():
            continue
        try:
            made = config.of(width=width, **more)
        except ValueError as error:
            assert "choose a width that is a multiple of 16" in str(error)
            with pytest.raises(ValueError), torch.device("meta"):
                kind(replace_checked(config, width=width, **more))
            continue
        with torch.device("meta"):
            kind(made)


def replace_checked(config: type[Settings], **changes: object) -> Settings:
    """A config with changes, though they do not go together."""
    class Careless(config):
        def conflict(self) -> str:
            return ""
    return Careless.of(**changes)


values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(min_value=2**62).map(lambda n: n**40), st.floats(), st.text(),
    st.sampled_from(["nan", "inf", "1e999", "", "\0", "\ud800", "last", "conv5", "pca", "conditional", "none", "batch"]),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=2), st.integers(), max_size=2))


@st.composite
def asked(draw: st.DrawFn) -> tuple[str, dict[str, object]]:
    """A method, and settings for it that somebody may ask for: some possible, most not."""
    method = draw(st.sampled_from(sorted(METHODS)))
    known = flat(METHODS[method][1]())
    names = st.sampled_from(sorted(known)) | st.sampled_from(["channels", "seed", "", "gama1"]) | st.text(max_size=3)
    found = {name: draw(values | st.just(known.get(name))) for name in draw(st.lists(names, max_size=4))}
    return method, found


def one_line_or_a_method(case: tuple[str, dict[str, object]]) -> None:
    method, settings = case
    try:
        config = build_config(method, settings)
    except RunError as error:
        assert str(error).isprintable() and len(str(error)) < 2000
        return
    assert flat(config) == flat(METHODS[method][1]()) | settings
    try:
        with torch.device("meta"):
            METHODS[method][0](config)
    except ValueError as error:                                             # for images of this size
        assert str(error).isprintable() and ("tap is" in str(error) or "a multiple of 16" in str(error))


@settings(max_examples=150, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(asked())
def test_whatever_is_asked_a_method_is_made_or_one_line_said(case: tuple[str, dict[str, object]]) -> None:
    one_line_or_a_method(case)


@pytest.mark.slow
@settings(max_examples=1000, suppress_health_check=[HealthCheck.too_slow])
@given(asked())
def test_whatever_is_asked_a_method_is_made_or_one_line_said_at_length(case: tuple[str, dict[str, object]]) -> None:
    one_line_or_a_method(case)


# Flat on disk


@pytest.mark.parametrize("config", CONFIGS)
def test_a_name_is_that_of_one_setting(config: type[Settings]) -> None:
    """Over all groups, so that a flat name says enough; and no setting is called as a fact of the images."""
    def names(cls: type[Settings]) -> list[str]:
        return [name for outer, kind in kinds_of(cls).items()
                for name in (names(kind) if isinstance(kind, type) and issubclass(kind, Settings) else [outer])]
    assert len(names(config)) == len(set(names(config))) == len(flat(config()))
    assert not set(names(config)) & set(kinds_of(Images))


@pytest.mark.parametrize("config", CONFIGS)
def test_there_and_back(config: type[Settings]) -> None:
    for name, kind in leaves(config).items():
        for value in others(name, kind, flat(config())[name]):
            try:
                changed = config.of(**{name: value})
            except ValueError:                                              # two settings that do not go together
                continue
            assert flat(changed) == flat(config()) | {name: value}
            assert from_flat(config, flat(changed)) == changed != config()
            assert with_flat(changed, flat(config())) == config()


def test_groups_keep_what_was_set_before() -> None:
    c = CDLMConfig(Weights(gamma1=0.5)).but(gamma2=0.2, kl="marginal")
    assert (c.weights.gamma1, c.weights.gamma2, c.losses.kl) == (0.5, 0.2, "marginal")
    assert type(ImprovedConfig.of(entropy=0.2)) is ImprovedConfig and ImprovedConfig.of(entropy=0.2).additions.entropy == 0.2
    assert PlainConfig.of(entropy=0.2).additions.self_training == 0 < ImprovedConfig.of(entropy=0.2).additions.self_training


def test_settings_of_ones_own() -> None:
    @dataclass(frozen=True)
    class Inner(Settings):
        count: Count = 2

    assert flat(Inner.of(count=3)) == {"count": 3} and words_of(Inner) == {}
    with pytest.raises(ValueError, match="^Inner has no setting 'depth'; it has: count$"):
        Inner.of(depth=1)


# Each has a reader


SMALL = {method: {} for method in METHODS} | {
    "cdlm": {"width": 4, "latent": 3, "lambda1": 0.3, "lambda2": 0.2, "gamma2": 0.5},
    "improved": {"width": 4, "latent": 3, "lambda1": 0.3, "lambda2": 0.2, "gamma2": 0.5, "confidence": 0.05},
    "plain": {"width": 4, "latent": 3, "reversal": 0.2, "confidence": 0.05}, "dann": {"width": 4, "hidden": 5},
    "source": {"width": 4}, "mcd": {"width": 4}} | {
    name: {"width": 4, "latent": 3} for name in ("cdan", "mcc", "shot", "symmnets", "unit", "cdrd", "ecdrd", "datl")} | {
    "stargan": {"width": 4}} | {
    name: {"width": 4, "latent": 3, "confidence": 0.05} for name in ("adamatch", "tpn")} | {
    "ilada": {"width": 4, "latent": 3, "neighbors": 1, "compared": 1, "kept": 0.5, "start": 0.5}} | {
    name: {"width": 4, "latent": 3} for name in ("pixelda", "gta")} | {
    "cycada": {"width": 4, "latent": 3, "trusted": 3.0, "pool": 4}}  # fmt: skip
ONLY_WITH = {"inner_phi": {"updates": "alternating"}, "inner_theta": {"updates": "alternating"}}
FOR_METHOD = {("improved", "normalization"): {"domain_statistics": False}, ("plain", "confidence"): {"self_training": 1.0},
              ("plain", "teacher"): {"self_training": 1.0}, ("adamatch", "interpolate"): {"normalization": "batch"},
              ("cycada", "feature"): {"sure": 0.0}, ("cycada", "start"): {"sure": 0.0}}  # fmt: skip

LABELS = {"ilada": torch.arange(6) // 2, "tpn": torch.arange(6) % 2}     # so that a class has more than one image


def others(name: str, kind: object, value: object) -> list[object]:
    """Values that a setting may have instead of ``value``."""
    if name in ("tap", "confidence"):
        return [{"tap": "conv2", "confidence": 1.0}[name]]
    if get_origin(kind) is Literal:
        return [word for word in get_args(kind) if word != value]
    return [not value if isinstance(value, bool) else 2 * value if isinstance(value, int) else value / 2 + 0.01]


def turns() -> list[tuple[str, str, object]]:
    """Each setting of each method, with each value that it may have instead of its own."""
    found = []
    for method, (_, config) in METHODS.items():
        base = flat(config.of(**SMALL[method]))
        found += [(method, name, value) for name, kind in leaves(config).items() for value in others(name, kind, base[name])]
    return found


@cache
def trained(method: str, settings: tuple[tuple[str, object], ...], steps: int = 3) -> dict[str, torch.Tensor] | None:
    """Weights (float64) after some steps on random images; None for settings that are refused."""
    kind, config = METHODS[method]
    try:
        made = config.of(**dict(settings))
    except ValueError:
        return None
    torch.manual_seed(0)
    model, g = kind(made).double(), torch.Generator().manual_seed(1)
    x_s, x_t, again, plain = torch.rand(4, 6, 1, 28, 28, generator=g, dtype=torch.float64) * 2 - 1
    model.prepare(*(((x + 1) * 127.5).to(torch.uint8) for x in (x_s, x_t)))
    x_t = 0.8 * x_s + 0.2 * x_t if method == "ilada" else x_t       # it learns where neighbors are of several classes
    trainer = Trainer(model.double().train(), steps)
    for _ in range(steps):
        trainer.step(DomainBatch(x_s, LABELS.get(method, torch.arange(6)), x_t, again, plain, torch.arange(6)), g)
    learned = model.state_dict() if method == "tpn" else dict(model.named_parameters())    # it classifies by means that it keeps
    return {name: value.detach() for name, value in learned.items()}


def differ(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() != other.keys() or any(
        value.shape != other[name].shape or not torch.allclose(value, other[name], rtol=1e-7, atol=1e-9)
        for name, value in one.items())


@pytest.mark.parametrize("method, name, value", turns(), ids=str)
def test_every_setting_changes_training(method: str, name: str, value: object) -> None:
    """Turned alone it leads to other weights, or it is refused; one that did neither would be a decoration."""
    base = SMALL[method] | ONLY_WITH.get(name, {}) | FOR_METHOD.get((method, name), {})
    before, after = (trained(method, tuple(sorted((base | change).items()))) for change in ({}, {name: value}))
    assert before is not None and all(value.isfinite().all() for value in before.values())
    assert after is None or differ(before, after)


def test_the_same_settings_train_the_same() -> None:
    """Otherwise the test above would find any setting alive."""
    for method, small in SMALL.items():
        same = tuple(sorted(small.items()))
        trained.cache_clear()
        before = trained(method, same)
        trained.cache_clear()
        assert not differ(before, trained(method, same)), method


def test_few_settings_are_refused() -> None:
    """In what cannot be combined, every method agrees with what its chapter says."""
    refused = set()
    for method, name, value in turns():
        try:
            METHODS[method][1].of(**SMALL[method] | {name: value})
        except ValueError:
            refused.add((method, name))
    assert refused == {("tpn", "features")} | {
        ("improved", name) for name in ("classifier", "reads", "task_reaches_encoder", "task_reaches_decoder")}
