"""The networks in all their forms: geometry by size, taps, shallow features, normalization; the defaults as ever."""

from __future__ import annotations

import copy
import pickle
from itertools import accumulate

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cdlm.data.batches import normalize
from cdlm.domains.samples import load_domain
from cdlm.model.networks import (
    ConvTrunk,
    Decoder,
    Encoder,
    PCAFeatures,
    ResidualBlock,
    ResidualDecoder,
    ResidualTrunk,
    TaskClassifier,
    conv_block,
    deconv_block,
    halvings,
    networks_of,
    norm,
    principal_components,
    tap_of_table5,
    tap_place,
)
from cdlm.model.normalization import ChunkedBatchNorm, DomainBatchNorm, facing, set_chunks

SIZES = (28, 32, 64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int, channels: int = 1, size: int = 28, seed: int = 0) -> Tensor:
    return torch.rand(count, channels, size, size, generator=generator(seed)) * 2 - 1


def digits(count: int) -> Tensor:
    chosen = torch.randperm(4000, generator=generator())[:count]
    return normalize(load_domain("mnist").train.images[chosen])


def made(factory, *args, seed: int = 0, **kwargs) -> nn.Module:
    torch.manual_seed(seed)
    return factory(*args, **kwargs)


def shapes(blocks: nn.Module, x: Tensor) -> list[tuple[int, ...]]:
    return [tuple(a.shape[1:]) for a in list(accumulate(blocks, lambda a, block: block(a), initial=x))[1:]]


# The defaults are the networks from before there was anything to choose: written out here, and not imported


def block(layer: nn.Module, channels: int) -> nn.Sequential:
    return nn.Sequential(layer, nn.GroupNorm(max(1, channels // 16), channels), nn.LeakyReLU(0.01))


def old_trunk(c: int, w: int) -> list[nn.Module]:
    return [block(nn.Conv2d(c, w, 5, 2, 2), w), block(nn.Conv2d(w, 2 * w, 5, 2, 2), 2 * w),
            block(nn.Conv2d(2 * w, 4 * w, 7), 4 * w), block(nn.Conv2d(4 * w, 8 * w, 1), 8 * w), nn.Flatten()]  # fmt: skip


def old_decoder(latent: int, c: int, w: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Unflatten(1, (latent, 1, 1)), block(nn.ConvTranspose2d(latent, 4 * w, 7), 4 * w),
        block(nn.ConvTranspose2d(4 * w, 2 * w, 4, 2, 1), 2 * w), block(nn.ConvTranspose2d(2 * w, w, 4, 2, 1), w),
        nn.Conv2d(w, c, 1), nn.Tanh(),
    )  # fmt: skip


def old_classifier(c: int, w: int, classes: int) -> nn.Sequential:
    return nn.Sequential(
        block(nn.Conv2d(c, w, 5, 2, 2), w), block(nn.Conv2d(w, 2 * w, 5, 2, 2), 2 * w),
        nn.Flatten(), nn.Linear(98 * w, 128), nn.ReLU(), nn.Linear(128, classes),
    )  # fmt: skip


class OldEncoder(nn.Module):
    def __init__(self, latent: int, c: int, w: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*old_trunk(c, w))
        self.mu, self.log_sigma, self.h = (nn.Linear(8 * w, latent) for _ in range(3))
        nn.init.zeros_(self.log_sigma.weight)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.trunk(x)
        return self.mu(features), self.log_sigma(features).clamp(-6, 3).exp(), self.h(features).sigmoid()


@pytest.mark.parametrize("channels, width, latent", [(1, 16, 32), (3, 8, 5)])
def test_defaults_are_bit_identical_to_the_networks_without_choices(channels: int, width: int, latent: int) -> None:
    """Same names, same order of initialization, same outputs, same gradients, and training draws the same numbers after."""

    class OldClassifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = old_classifier(channels, width, 7)

        def forward(self, x: Tensor) -> Tensor:
            return self.layers(x)

    x, z = images(6, channels), torch.randn(6, latent, generator=generator())
    for new, old, given_ in [
        (lambda: Encoder(latent, channels, width), lambda: OldEncoder(latent, channels, width), x),
        (lambda: Decoder(latent, channels, width), lambda: old_decoder(latent, channels, width), z),
        (lambda: TaskClassifier(channels, width, 7), OldClassifier, x),
    ]:
        one, after_one = made(new), torch.get_rng_state()
        other, after_other = made(old), torch.get_rng_state()
        assert torch.equal(after_one, after_other)
        assert list(one.state_dict()) == list(other.state_dict())
        assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values()))
        outputs = [y if isinstance(y, tuple) else (y,) for y in (one(given_), other(given_))]
        assert all(torch.equal(a, b) for a, b in zip(*outputs))
        for ys in outputs:
            sum(y.square().sum() for y in ys).backward()
        assert all(torch.equal(a.grad, b.grad) for a, b in zip(one.parameters(), other.parameters()))


def test_names_of_the_parameters() -> None:
    """Checkpoints on disk have these."""
    blocks = [f"trunk.{i}.{j}.{kind}" for i in range(4) for j in (0, 1) for kind in ("weight", "bias")]
    heads = [f"{head}.{kind}" for head in ("mu", "log_sigma", "h") for kind in ("weight", "bias")]
    assert list(Encoder().state_dict()) == blocks + heads
    decoder = [f"{i}.{j}.{kind}" for i in (1, 2, 3) for j in (0, 1) for kind in ("weight", "bias")]
    assert list(Decoder().state_dict()) == [*decoder, "4.weight", "4.bias"]


# Sizes


GEOMETRY = {28: [(2, 14), (4, 7), (8, 1), (16, 1)], 32: [(2, 16), (4, 8), (8, 1), (16, 1)],
            64: [(2, 32), (4, 16), (8, 8), (16, 1), (16, 1)]}  # fmt: skip
DRAWN = {28: [(8, 7), (4, 14), (2, 28)], 32: [(8, 8), (4, 16), (2, 32)], 64: [(16, 8), (8, 16), (4, 32), (2, 64)]}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["group", "batch", "none"])
def test_geometry_of_every_layer(size: int, channels: int, kind: str) -> None:
    x = images(2, channels, size)
    trunk = ConvTrunk(channels, 2, size, kind).eval()
    assert shapes(trunk, x) == [(c, s, s) for c, s in GEOMETRY[size]] + [(16,)]
    assert trunk.sizes == [c * s * s for c, s in GEOMETRY[size]] and trunk.features == 16
    activations = trunk.activations(x)
    assert [a[0].numel() for a in activations] == trunk.sizes
    assert torch.equal(activations[-1].flatten(1), trunk(x))
    decoder = Decoder(5, channels, 2, size, kind).eval()
    drawn = [(5, 1, 1), *[(c, s, s) for c, s in DRAWN[size]], (channels, size, size), (channels, size, size)]
    assert shapes(decoder, torch.randn(2, 5)) == drawn
    assert decoder(torch.randn(2, 5)).abs().max() <= 1
    classifier = TaskClassifier(channels, 2, 4, size, kind).eval()
    assert classifier(x).shape == (2, 4)
    assert classifier.layers[halvings(size) + 1].in_features == trunk.sizes[halvings(size) - 1]


@pytest.mark.parametrize("size", SIZES)
def test_kernels_and_strides(size: int) -> None:
    layers = [m for m in ConvTrunk(1, 2, size).modules() if isinstance(m, nn.Conv2d)]
    last = 7 if size == 28 else 8
    halving = [((5, 5), (2, 2), (2, 2))] * (3 if size == 64 else 2)
    assert [(m.kernel_size, m.stride, m.padding) for m in layers] == [
        *halving, ((last, last), (1, 1), (0, 0)), ((1, 1), (1, 1), (0, 0))]  # fmt: skip
    layers = [m for m in Decoder(3, 1, 2, size).modules() if isinstance(m, nn.ConvTranspose2d)]
    doubling = [((4, 4), (2, 2), (1, 1))] * (3 if size == 64 else 2)
    assert [(m.kernel_size, m.stride, m.padding) for m in layers] == [((last, last), (1, 1), (0, 0)), *doubling]


@pytest.mark.parametrize("factory", [ConvTrunk, Decoder, Encoder, TaskClassifier])
@pytest.mark.parametrize("size", [0, 16, 29, 128, 64.5])
def test_other_sizes_are_refused(factory: type, size: int) -> None:
    with pytest.raises(ValueError, match="28, 32 and 64"):
        factory(size=size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_weight_of_encoder_and_decoder_is_reached(size: int, channels: int) -> None:
    encoder, decoder = made(Encoder, 6, channels, 4, size), made(Decoder, 6, channels, 4, size)
    code = encoder(images(3, channels, size))
    assert all(value.shape == (3, 6) for value in code)
    (decoder(code.mu + code.sigma * code.h) ** 2).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in [*encoder.parameters(), *decoder.parameters()])


# Normalization


def test_kinds_of_normalization() -> None:
    assert type(norm(32)) is type(norm(32, "group")) is nn.GroupNorm and norm(32).num_groups == 2
    assert type(norm(32, "batch")) is ChunkedBatchNorm and norm(32, "batch").num_features == 32
    assert type(norm(32, "domain")) is DomainBatchNorm and norm(32, "domain").weight.shape == (32,)
    assert type(norm(32, "none")) is nn.Identity
    for make in (lambda: norm(4, "layer"), lambda: conv_block(1, 4, 3, normalization=""), lambda: Encoder(normalization="Group"),
                 lambda: deconv_block(1, 4, 3, normalization="instance")):  # fmt: skip
        with pytest.raises(ValueError, match='"group", "batch", "domain" or "none"'):
            make()


@pytest.mark.parametrize("factory", [TaskClassifier, ConvTrunk, Decoder, Encoder])
def test_the_kind_reaches_every_layer(factory: type) -> None:
    found = {kind: [type(m) for m in factory(normalization=kind).modules()] for kind in ("group", "batch", "none")}
    number = 2 if factory is TaskClassifier else 3 if factory is Decoder else 4
    assert found["group"].count(nn.GroupNorm) == found["batch"].count(ChunkedBatchNorm) == number
    assert found["none"].count(nn.Identity) == number
    assert nn.GroupNorm not in found["batch"] + found["none"] and ChunkedBatchNorm not in found["group"] + found["none"]


@pytest.mark.parametrize("normalization, alone", [("group", True), ("none", True), ("batch", False)])
def test_only_batch_normalization_minds_the_company(normalization: str, alone: bool) -> None:
    encoder, x = made(Encoder, 4, 1, 4, normalization=normalization).double(), images(6).double()
    same = [torch.allclose(a[:3], b[:3], atol=1e-9) for a, b in zip(encoder(x), encoder(torch.cat([x[:3], -x[3:]])))]
    assert same[0] == same[2] == alone
    encoder.eval()
    assert torch.allclose(encoder(x).mu[:1], encoder(x[:1]).mu, atol=1e-12)


def batch_network(chunks: int = 1) -> nn.Module:
    """Two convolutions with batch normalization, in double precision, always the same weights."""
    network = made(lambda: nn.Sequential(conv_block(1, 4, 5, 2, 2, "batch"), conv_block(4, 6, 3, 1, 0, "batch"))).double()
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator(7), dtype=torch.float64)
    set_chunks(network, chunks)
    return network


@given(st.integers(1, 5), st.integers(2, 4), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_a_batch_in_chunks_is_the_same_as_separate_calls(chunks: int, each: int, seed: int) -> None:
    """Outputs, gradients of inputs and parameters, running statistics and their counter, over two training steps."""
    fused, separate = batch_network(chunks), batch_network()
    for step in range(2):
        shifts = torch.arange(chunks).repeat_interleave(each).view(-1, 1, 1, 1)
        x = torch.randn(chunks * each, 1, 9, 9, generator=generator(seed + step), dtype=torch.float64) * (1 + shifts) + shifts
        one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        ys = fused(one), torch.cat([separate(part) for part in other.chunk(chunks)])
        weights = torch.randn(ys[0].shape, generator=generator(seed), dtype=torch.float64)
        for y in ys:
            (y * weights).sum().backward()
        # the second layer's statistics are updated after the first one's in both orders of calls
        assert torch.allclose(*ys, atol=1e-10) and torch.allclose(one.grad, other.grad, atol=1e-9)
    for (name, a), b in zip(fused.named_parameters(), separate.parameters()):
        assert torch.allclose(a.grad, b.grad, atol=1e-8), name
    for (name, a), b in zip(fused.named_buffers(), separate.buffers()):
        assert torch.allclose(a.double(), b.double(), atol=1e-12), name
    assert fused[0][1].num_batches_tracked == 2 * chunks


def test_chunks_are_not_one_batch() -> None:
    """What would break if the two were the same: domains far apart."""
    x = torch.cat([images(4), images(4, seed=1) * 0.1 - 0.9]).double()
    assert not torch.allclose(batch_network(2)(x), batch_network(1)(x), atol=0.1)


@pytest.mark.parametrize("chunks", [1, 2, 3, 7])
def test_in_evaluation_chunks_do_not_matter(chunks: int) -> None:
    network, x = batch_network(chunks), images(10).double()
    expected = batch_network().eval()(x)
    before = copy.deepcopy(network.state_dict())
    assert torch.equal(network.eval()(x), expected)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), network.state_dict().values()))


def test_batches_that_cannot_be_cut_evenly_are_refused_in_training() -> None:
    with pytest.raises(ValueError, match="batch of 10 cannot be cut into 4"):
        batch_network(4)(images(10).double())
    for chunks in (0, -1):
        with pytest.raises(ValueError, match="cut into"):
            set_chunks(batch_network(), chunks)


def test_chunks_of_one_network_leave_others_alone() -> None:
    one, other = Encoder(normalization="batch"), Encoder(normalization="batch")
    set_chunks(one, 2)
    assert [m.chunks for m in one.modules() if isinstance(m, ChunkedBatchNorm)] == [2] * 4
    assert [m.chunks for m in other.modules() if isinstance(m, ChunkedBatchNorm)] == [1] * 4
    set_chunks(Encoder(), 2)
    assert list(one.state_dict()) == list(other.state_dict())


def test_unchunked_it_is_torch() -> None:
    ours, theirs, x = ChunkedBatchNorm(3), nn.BatchNorm2d(3), torch.randn(5, 3, 4, 4, generator=generator())
    assert torch.equal(ours(x), theirs(x)) and torch.equal(ours.eval()(x), theirs.eval()(x))


# Taps


def test_names_of_taps() -> None:
    assert [tap_place(tap) for tap in ("conv1", "conv2", "conv3", "conv4", "last")] == [0, 1, 2, 3, 3]
    assert tap_place("conv5", convolutions=5) == tap_place("last", convolutions=5) == 4
    assert tap_place("last", "pca") == 3
    for tap in ("conv0", "conv5", "Conv4", "", "h"):
        with pytest.raises(ValueError, match="conv1, conv2, conv3, conv4, last"):
            Encoder(tap=tap)
    with pytest.raises(ValueError, match='"deep" or "pca"'):
        Encoder(features="shallow")
    with pytest.raises(ValueError, match="reads the image"):
        Encoder(features="pca", tap="conv2")
    with pytest.raises(ValueError, match='"sigmoid" or "linear"'):
        Encoder(activation="relu")


def test_columns_of_table_5_are_counted_from_the_end() -> None:
    columns = ("Conv4", "Conv5", "Convlast")
    for size, expected in ((28, (1, 2, 3)), (32, (1, 2, 3)), (64, (2, 3, 4))):
        encoder = Encoder(width=2, size=size)
        places = [tap_place(tap_of_table5(name, size), convolutions=len(encoder.trunk.sizes)) for name in columns]
        assert tuple(places) == expected and places[-1] == encoder.tap
    with pytest.raises(ValueError, match="Conv4, Conv5, Convlast"):
        tap_of_table5("conv4")
    with pytest.raises(ValueError, match="28, 32 and 64"):
        tap_of_table5("Conv4", 30)


@pytest.mark.parametrize("size", [28, 64])
def test_h_is_the_formula_of_its_tap_and_the_code_is_always_that_of_the_last(size: int) -> None:
    x = images(3, 1, size)
    reference = made(Encoder, 5, 1, 2, size)
    for place in range(len(reference.trunk.sizes)):
        encoder = made(Encoder, 5, 1, 2, size, tap=f"conv{place + 1}")
        s = encoder(x)
        assert torch.equal(s.mu, reference(x).mu) and torch.equal(s.sigma, reference(x).sigma)
        a = x
        for layer in list(encoder.trunk)[: place + 1]:
            a = layer(a)
        expected = 1 / (1 + torch.exp(-(a.flatten(1) @ encoder.h.weight.T + encoder.h.bias)))
        assert torch.allclose(s.h, expected, atol=1e-6)
        gradients = torch.autograd.grad(s.h.sum(), list(encoder.trunk.parameters()), allow_unused=True)
        reached = [any(g is not None for g in gradients[4 * i : 4 * i + 4]) for i in range(len(encoder.trunk.sizes))]
        assert reached == [i <= place for i in range(len(reached))]


def test_linear_features_are_the_logits_of_the_sigmoid_ones() -> None:
    x = images(4)
    h, linear = (made(Encoder, activation=name)(x).h for name in ("sigmoid", "linear"))
    assert torch.allclose(h, linear.sigmoid()) and linear.min() < 0
    assert list(Encoder(activation="linear").state_dict()) == list(Encoder().state_dict())


# Residual blocks


SEEN = {28: [(2, 14), (2, 14), (4, 7), (8, 1)], 32: [(2, 16), (2, 16), (4, 8), (8, 1)],
        64: [(2, 32), (2, 32), (4, 16), (8, 8), (8, 1)]}  # fmt: skip
BUILT = {28: [4, 4, 7, 7, 14, 14, 28], 32: [4, 4, 8, 8, 16, 16, 32], 64: [4, 4, 8, 8, 16, 16, 32, 32, 64]}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["group", "batch", "domain", "none"])
def test_geometry_of_residual_networks(size: int, channels: int, kind: str) -> None:
    x = images(2, channels, size)
    trunk, decoder = ResidualTrunk(channels, 2, size, kind).eval(), ResidualDecoder(5, channels, 2, size, kind).eval()
    assert shapes(trunk, x) == [(c, s, s) for c, s in SEEN[size]] + [(8,)]
    assert trunk.sizes == [c * s * s for c, s in SEEN[size]] and trunk.features == 8
    assert [a[0].numel() for a in trunk.activations(x)] == trunk.sizes
    assert torch.equal(trunk.activations(x)[-1].flatten(1), trunk(x))
    drawn = shapes(decoder, torch.randn(2, 5))
    assert [s for _, s, _ in drawn] == [1, *BUILT[size], size, size] and drawn[-1] == (channels, size, size)
    assert decoder(torch.randn(2, 5)).abs().max() <= 1


@pytest.mark.parametrize("factory", [ResidualTrunk, ResidualDecoder])
@pytest.mark.parametrize("size", [0, 29, 64.5])
def test_other_sizes_are_refused_by_residual_networks(factory: type, size: int) -> None:
    with pytest.raises(ValueError, match="28, 32 and 64"):
        factory(size=size)


def test_the_blocks_stand_at_14_7_and_4_pixels_and_places_are_averaged() -> None:
    trunk, x, sides = ResidualTrunk(3, 4), images(2, 3), []
    for module in trunk.modules():
        if isinstance(module, ResidualBlock):
            module.register_forward_hook(lambda _, given_, y: sides.append(y.shape[-1]))
    features = trunk(x)
    assert sides == [14, 7, 4]
    last = list(trunk)[-2]
    before = last[0](trunk.activations(x)[-2])
    assert before.shape == (2, 16, 4, 4) and torch.allclose(before.mean((2, 3)), features, atol=1e-6)


def test_a_residual_block_by_hand() -> None:
    """Without normalization: leaky(x + conv(leaky(conv x))), and a kernel of 1 around where the shape changes."""
    def leaky(x: Tensor) -> Tensor:
        return torch.where(x > 0, x, 0.01 * x)
    same, halved, x = (made(ResidualBlock, 3, 3, normalization="none"), made(ResidualBlock, 3, 5, 2, "none"), images(2, 3, 8))
    first, second = same.residual[0][0], same.residual[1]
    assert torch.allclose(same(x), leaky(x + second(leaky(first(x)))), atol=1e-6)
    first, second, around = halved.residual[0][0], halved.residual[1], halved.shortcut[0]
    assert around.kernel_size == (1, 1) and halved(x).shape == (2, 5, 4, 4)
    assert torch.allclose(halved(x), leaky(around(x) + second(leaky(first(x)))), atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_every_weight_of_a_residual_pair_is_reached(size: int) -> None:
    encoder = made(Encoder, 6, 3, 4, size, trunk="residual").double()
    decoder = made(ResidualDecoder, 6, 3, 4, size).double()
    code = encoder(images(3, 3, size).double())
    (decoder(code.mu + code.sigma * code.h) ** 2).sum().backward()
    assert all(bool(p.grad.any()) for p in [*encoder.parameters(), *decoder.parameters()])


@pytest.mark.parametrize("kind", ["group", "batch", "domain"])
def test_normalization_of_a_residual_encoder(kind: str) -> None:
    """All eight layers take part: over the batch in chunks, by domain as it is told, over groups alone."""
    encoder, x = made(Encoder, 4, 1, 4, normalization=kind, trunk="residual").double(), images(6).double()
    wanted = {"group": nn.GroupNorm, "batch": ChunkedBatchNorm, "domain": DomainBatchNorm}[kind]
    assert sum(isinstance(m, wanted) for m in encoder.modules()) == 1 + 2 + 3 + 3
    set_chunks(encoder, 2)
    with facing(encoder, "both"):
        one, other = encoder(x), encoder(torch.cat([x[:3], -x[3:]]))
    assert torch.allclose(one.h[:3], other.h[:3], atol=1e-9)


@pytest.mark.parametrize("width, channels", [(4, 1), (16, 3)])
def test_work_of_residual_networks_by_hand(width: int, channels: int) -> None:
    """Counted on tensors without numbers; a multiplication and an addition are two."""
    def counted(network: nn.Module, x: Tensor) -> int:
        with FlopCounterMode(display=False) as counter:
            network.to("meta")(x)
        return counter.get_total_flops() // 2

    def block(c_in: int, c_out: int, side: int) -> int:
        return (9 * c_in * c_out + 9 * c_out**2 + (0 if c_in == c_out else c_in * c_out)) * side**2

    w, c = width, channels
    trunk, decoder = ResidualTrunk(c, w), ResidualDecoder(32, c, w)
    assert counted(trunk, torch.zeros(1, c, 28, 28, device="meta")) == (
        25 * c * w * 14**2 + block(w, w, 14) + block(w, 2 * w, 7) + block(2 * w, 4 * w, 4))
    assert counted(decoder, torch.zeros(1, 32, device="meta")) == (
        16 * 32 * 4 * w + block(4 * w, 4 * w, 4) + 9 * 8 * w**2 * 4**2 + block(2 * w, 2 * w, 7)
        + 16 * 2 * w**2 * 7**2 + block(w, w, 14) + 16 * w**2 * 14**2 + w * c * 28**2)
    weights = 25 * c * w + 18 * w**2 + (18 + 36 + 2) * w**2 + (72 + 144 + 8) * w**2
    layers = w + 2 * w + 3 * 2 * w + 3 * 4 * w                              # a bias, a scale and a shift for each channel
    assert sum(p.numel() for p in trunk.parameters()) == weights + 3 * layers


def test_networks_by_name() -> None:
    assert networks_of("unit") == (ConvTrunk, Decoder) and networks_of("residual") == (ResidualTrunk, ResidualDecoder)
    assert type(Encoder(trunk="residual").trunk) is ResidualTrunk and type(Encoder().trunk) is ConvTrunk
    for make in (lambda: networks_of("resnet"), lambda: Encoder(trunk="")):
        with pytest.raises(ValueError, match='must be "unit" or "residual"'):
            make()


@pytest.mark.parametrize("size", [28, 64])
def test_taps_of_a_residual_trunk_have_the_names_of_the_other(size: int) -> None:
    x = images(2, 1, size)
    count = len(Encoder(width=2, size=size).trunk.sizes)
    assert len(Encoder(width=2, size=size, trunk="residual").trunk.sizes) == count
    for place in range(count):
        encoder = made(Encoder, 5, 1, 2, size, tap=f"conv{place + 1}", trunk="residual")
        a = encoder.trunk.activations(x)[place]
        assert torch.allclose(encoder(x).h, torch.sigmoid(encoder.h(a.flatten(1))), atol=1e-6)


# Shallow features


def test_components_are_those_of_sklearn_up_to_sign() -> None:
    x, new = digits(600).flatten(1).double(), digits(700)[600:].double()
    reference = PCA(16, whiten=True, svd_solver="full").fit(x.numpy())
    features = PCAFeatures(16).double().fit(digits(600).double())
    signs = np.sign((reference.components_ * features.components.numpy()).sum(1))
    assert np.allclose(features.mean, reference.mean_, atol=1e-12)
    assert np.allclose(features.components.numpy(), signs[:, None] * reference.components_, atol=1e-6)
    assert np.allclose(features.scale.square(), reference.explained_variance_, rtol=1e-8)
    assert np.allclose(features(new).numpy(), signs * reference.transform(new.flatten(1).numpy()), atol=1e-5)


@given(st.integers(1, 6), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_components_are_orthonormal_and_whiten(count: int, seed: int) -> None:
    x = torch.randn(30, 8, generator=generator(seed), dtype=torch.float64) @ torch.diag(torch.arange(1.0, 9).double()) + 5
    mean, directions, scale = principal_components(x, count)
    assert torch.allclose(directions @ directions.T, torch.eye(count).double(), atol=1e-9)
    white = (x - mean) @ directions.T / scale
    assert torch.allclose(torch.cov(white.T).view(count, count), torch.eye(count).double(), atol=1e-9)
    assert (scale.diff() <= 0).all()
    assert (directions.gather(1, directions.abs().argmax(1, keepdim=True)) > 0).all()


def test_fitting_is_reproducible_and_leaves_the_global_generator_alone() -> None:
    x = digits(200)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one = PCAFeatures(8).fit(x)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert torch.equal(one.components, PCAFeatures(8).fit(x).components)


def test_points_without_enough_directions_are_refused() -> None:
    for x in (digits(8), digits(1), digits(1).expand(40, -1, -1, -1), torch.zeros(40, 1, 28, 28)):
        features = PCAFeatures(8)
        with pytest.raises(ValueError, match="do not vary in 8 directions"):
            features.fit(x)
        assert not features.fitted
    PCAFeatures(7).fit(digits(8))


@pytest.mark.parametrize("channels, size", [(1, 28), (3, 32), (3, 64)])
def test_an_encoder_with_shallow_features(channels: int, size: int) -> None:
    x = images(12, channels, size)
    encoder = made(Encoder, 5, channels, 2, size, features="pca")
    with pytest.raises(RuntimeError, match=r"call fit\(images\)"):
        encoder(x)
    encoder.h.fit(x)
    s = encoder(x)
    reference = made(Encoder, 5, channels, 2, size)
    assert torch.equal(s.mu, reference(x).mu) and torch.equal(s.sigma, reference(x).sigma)
    assert torch.allclose(s.h.logit().mean(0), torch.zeros(5), atol=1e-4)
    assert torch.allclose(s.h.logit().std(0), torch.ones(5), atol=1e-3)
    assert not s.h.requires_grad and not any(name.startswith("h.") for name, _ in encoder.named_parameters())
    raw = made(Encoder, 5, channels, 2, size, features="pca", activation="linear")
    raw.h.fit(x)
    assert torch.allclose(raw(x).h.sigmoid(), s.h, atol=1e-6)


def test_a_drawing_gets_a_gradient_through_shallow_features() -> None:
    encoder, x = Encoder(4, features="pca"), digits(20)
    encoder.h.fit(x)
    x = x.requires_grad_()
    assert torch.autograd.grad(encoder(x).h.sum(), x)[0].abs().sum() > 0


def test_fitted_features_survive_saving_copying_and_pickling() -> None:
    encoder, x = Encoder(4, features="pca"), digits(20)
    fresh = copy.deepcopy(encoder)
    encoder.h.fit(x)
    expected = encoder(x).h
    for twin in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        assert torch.equal(twin(x).h, expected)
    empty = copy.deepcopy(fresh.state_dict())
    fresh.load_state_dict(encoder.state_dict())
    assert torch.equal(fresh(x).h, expected)
    fresh.load_state_dict(empty)
    with pytest.raises(RuntimeError, match="not fitted"):
        fresh(x)
