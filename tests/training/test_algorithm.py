"""Algorithm 1, fused and as printed: the same gradients, parameter by parameter; limits and identities of the whole model."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from cdlm.data.batches import DomainBatch
from cdlm.methods.base import Learner, Method, Now, Round, constant, draw_noise, linear_decay
from cdlm.methods.cdlm import CDLM, CDLMConfig, fused_losses, literal_gradients, literal_losses, transfer_code, transfer_codes
from cdlm.methods.registry import METHODS
from cdlm.model.codes import Codes, cross_codes
from cdlm.model.gradients import reverse_gradient, seam
from cdlm.model.networks import Decoder, Encoded
from cdlm.model.normalization import ChunkedBatchNorm
from cdlm.settings import Images
from cdlm.training.engine import Trainer, make_optimizer, run_round

SMALL = CDLMConfig.of(width=4, latent=3, lambda1=0.3, lambda2=0.2, gamma2=0.5)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(config: CDLMConfig, pairs: int = 5, seed: int = 0, images: Images | None = None) -> tuple[CDLM, DomainBatch, torch.Tensor]:
    """A float64 model of the config, a batch for it, and noise."""
    torch.manual_seed(seed)
    model, g = CDLM(config, images).double(), generator(seed)
    shape = (model.images.channels, model.images.size, model.images.size)
    x_s, x_t = torch.rand(2, pairs, *shape, generator=g, dtype=torch.float64) * 2 - 1
    if config.networks.features == "pca":
        model.encoder.h.fit(torch.cat([x_s, x_t]))
    return model, DomainBatch(x_s, torch.arange(pairs), x_t), draw_noise(model, pairs, g, torch.float64)


def gradients(model: CDLM) -> dict[str, torch.Tensor]:
    return {name: p.grad if p.grad is not None else torch.zeros_like(p) for name, p in model.named_parameters()}


def fused_gradients(model: CDLM, batch: DomainBatch, eps: torch.Tensor, strength: float) -> dict[str, torch.Tensor]:
    model.zero_grad()
    objective, losses = fused_losses(model, batch, eps, strength)
    objective.backward()
    return losses


CHANGES = [
    {}, {"modulation": "pm1"}, {"modulation": "pm2"}, {"modulation": "none"}, {"kl": "conditional"}, {"kl": "marginal"},
    {"kl": "simplified"}, {"kl": "conditional", "modulation": "pm1"}, {"consistency": "l1"}, {"consistency": "printed"},
    {"reduction": "mean"}, {"shared_noise": True}, {"classifier": "decoupled"}, {"reads": "real"}, {"reads": "drawn"},
    {"task_reaches_encoder": False}, {"task_reaches_decoder": False},
    {"task_reaches_encoder": False, "task_reaches_decoder": False}, {"consistency_reaches_encoder": True},
    {"consistency_reaches_encoder": True, "task_reaches_decoder": False},
    {"normalization": "none"}, {"normalization": "batch"},
    {"normalization": "batch", "consistency_reaches_encoder": True}, {"tap": "conv2"}, {"features": "pca"},
    {"activation": "linear"}, {"lambda1": 0.0, "lambda2": 0.0, "beta1": 0.0, "beta2": 0.0},
]


def name_of(value: object) -> str:
    return "-".join(f"{k}={v}" for k, v in value.items()) or "default" if isinstance(value, dict) else f"{value.size}"


@pytest.mark.parametrize("change, images", [*((change, Images()) for change in CHANGES), ({}, Images(3, 32))], ids=name_of)
def test_one_pass_gives_the_gradients_of_the_printed_algorithm(change: dict, images: Images) -> None:
    """To float64 precision, for every parameter, under every switch; and the same losses."""
    model, batch, eps = made(SMALL.but(**change), images=images)
    losses = fused_gradients(model, batch, eps, 0.7)
    fused = {name: g.clone() for name, g in gradients(model).items()}
    model.zero_grad()
    expected = literal_gradients(model, batch, eps, 0.7)
    literal = gradients(model)
    scale = max(float(g.abs().max()) for g in literal.values())
    for name, gradient in literal.items():
        assert torch.allclose(fused[name], gradient, rtol=1e-9, atol=1e-12 * scale), name
    for name, value in expected.items():
        assert torch.allclose(losses[name], value, rtol=1e-12), name
    assert any(bool(g.any()) for name, g in literal.items() if name.startswith("classifier"))


def test_a_seam_reaches_whom_it_should_and_nobody_else() -> None:
    torch.manual_seed(0)
    network, z = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double(), torch.randn(6, 3, dtype=torch.float64)
    z.requires_grad_()
    weight = torch.randn(6, 2, dtype=torch.float64)
    (network(z) * weight).sum().backward()
    plain_z, plain = z.grad.clone(), [p.grad.clone() for p in network.parameters()]
    for view, to_input, to_network in (("both", True, True), ("input", True, False), ("network", False, True)):
        z.grad = None
        network.zero_grad()
        (getattr(seam(network, z, 4), view) * weight).sum().backward()
        expected = torch.cat([plain_z[:4], torch.zeros(2, 3)]) if to_input else torch.zeros(6, 3)
        assert torch.allclose(z.grad if z.grad is not None else torch.zeros(6, 3).double(), expected.double())
        for p, g in zip(network.parameters(), plain):
            assert torch.allclose(p.grad, g) if to_network else p.grad is None


def test_a_seam_calls_its_network_once_for_every_row() -> None:
    rows = []
    class Counting(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            rows.append(len(x))
            return super().forward(x)
    network = Counting(2, 2)
    reach = seam(network, torch.randn(5, 2, requires_grad=True), 2)
    (reach.both.sum() + reach.input.sum() + reach.network.sum()).backward()
    assert sum(rows) == 5


def test_a_seam_with_opposite_gradients_is_the_reversal_layer() -> None:
    """The layer's two players want v and -lambda v: through a seam the same, from two streams."""
    torch.manual_seed(0)
    network, z = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double(), torch.randn(6, 3, dtype=torch.float64)
    z.requires_grad_()
    reach = seam(network, z, 6)
    wanted = [z, *network.parameters()]
    by_seam = torch.autograd.grad(reach.network.cos().sum() - 0.3 * reach.input.cos().sum(), wanted)
    by_layer = torch.autograd.grad(network(reverse_gradient(z, 0.3)).cos().sum(), wanted)
    assert all(torch.allclose(p, q, rtol=1e-12) for p, q in zip(by_seam, by_layer))


def test_a_seam_cannot_be_run_back_twice_in_silence() -> None:
    network, z = nn.Linear(2, 2), torch.randn(3, 2, requires_grad=True)
    loss = seam(network, z, 3).both.sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


# What it costs


def rows_read(model: nn.Module, run) -> dict[str, list[int]]:
    """Rows of each call of each network while ``run`` runs."""
    rows = {name: [] for name, _ in model.named_children()}
    hooks = [part.register_forward_hook(lambda _, inputs, __, name=name: rows[name].append(len(inputs[0])))
             for name, part in model.named_children()]
    run()
    for hook in hooks:
        hook.remove()
    return rows


@pytest.mark.parametrize("change, read", [
    ({}, 3), ({"reads": "drawn"}, 2), ({"reads": "real"}, 1), ({"classifier": "decoupled"}, 3)])
def test_every_row_goes_forward_once(change: dict, read: int) -> None:
    model, batch, eps = made(SMALL.but(**change))
    one_pass = rows_read(model, lambda: fused_losses(model, batch, eps, 0.7)[0].backward())
    literal = rows_read(model, lambda: literal_gradients(model, batch, eps, 0.7))
    expected = {"encoder": 10, "decoder": 20, "classifier": 5 * read, "discriminator": 10}
    assert {name: sum(rows) for name, rows in one_pass.items()} == expected
    assert {name: sum(rows) for name, rows in literal.items()} == expected
    assert {name: len(rows) for name, rows in one_pass.items()} == {"encoder": 1, "decoder": 2, "classifier": 1, "discriminator": 1}
    assert len(literal["decoder"]) == 4 and len(literal["classifier"]) == read


@pytest.mark.parametrize("phi, theta", [(1, 1), (5, 1), (1, 3)])
def test_each_update_in_turns_costs_a_pass(phi: int, theta: int) -> None:
    model, batch, eps = made(SMALL.but(updates="alternating", inner_phi=phi, inner_theta=theta))
    rows = rows_read(model, lambda: Trainer(model, 3).iterate(batch, eps))
    assert {name: sum(counts) // (phi + theta) for name, counts in rows.items()} == {
        "encoder": 10, "decoder": 20, "classifier": 15, "discriminator": 10}


class Operations(TorchDispatchMode):
    """Operations of convolutions: forward, back for data, back for weights."""

    def __init__(self) -> None:
        super().__init__()
        self.done = [0, 0, 0]

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result, kind = operation(*args, **(kwargs or {})), operation._overloadpacket
        if kind is torch.ops.aten.convolution_backward:
            for place, mask in ((1, [args[-1][0], False, False]), (2, [False, args[-1][1], False])):
                self.done[place] += flop_registry[kind](*args[:-1], mask, out_val=result)
        elif kind is torch.ops.aten.convolution:
            self.done[0] += flop_registry[kind](*args, **(kwargs or {}), out_val=result)
        return result


def operations(run) -> list[int]:
    with Operations() as counted:
        run()
    return counted.done


@pytest.mark.parametrize("reaching", [0, 2, 4])
def test_a_seam_does_no_more_than_it_must(reaching: int) -> None:
    """Forward once; weights once; data once for theta but for the first layer, and once for the rows that reach the encoder."""
    decoder, z = Decoder(5, width=4), torch.randn(12, 5, requires_grad=True)
    one, = operations(lambda: decoder(z[:3].detach()))[:1]
    first, = operations(lambda: decoder[1](decoder[0](z[:3].detach())))[:1]

    def through_the_seam() -> None:
        reach = seam(decoder, z, 3 * reaching)
        (reach.input[:3 * reaching].sum() + reach.network.square().sum()).backward()
    assert operations(through_the_seam) == [4 * one, reaching * one + 4 * (one - first), 4 * one]


# The engine


class Line(Method):
    """Two numbers with a learner each; the objective is a parabola whose slope the noise moves."""

    noise = (1, 2)

    def __init__(self, schedule=constant, optimizer: str = "sgd") -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(2.0))
        self.schedule, self.optimizer = schedule, optimizer

    def learners(self) -> list[Learner]:
        return [Learner("a", (self.a,), 0.1, self.optimizer, momentum=0.0, schedule=self.schedule), Learner("b", (self.b,), 0.2)]

    def forward(self, batch: DomainBatch, eps: torch.Tensor, now: Now) -> tuple[torch.Tensor, dict]:
        loss = (self.a - self.b + eps.mean()) ** 2 / 2
        return loss, {"loss": loss, "progress": torch.tensor(now.progress)}


def two_images() -> DomainBatch:
    return DomainBatch(torch.zeros(2, 1, 28, 28), torch.zeros(2, dtype=torch.long), torch.zeros(2, 1, 28, 28))


@given(steps=st.integers(1, 12), data=st.data())
@settings(max_examples=30, deadline=None)
def test_rates_follow_their_schedules(steps: int, data: st.DataObject) -> None:
    """After k of n steps the rate is lr times the schedule at k / n; the other learner's does not move."""
    k = data.draw(st.integers(0, steps))
    schedule = data.draw(st.sampled_from([constant, linear_decay, lambda p: (1 + 10 * p) ** -0.75]))
    trainer, g = Trainer(Line(schedule), steps), generator()
    for done in range(k):
        assert float(trainer.step(two_images(), g)["progress"]) == pytest.approx(done / steps)
    assert trainer.done == k
    assert trainer.optimizers["a"].param_groups[0]["lr"] == pytest.approx(0.1 * schedule(k / steps), rel=1e-12)
    assert trainer.optimizers["b"].param_groups[0]["lr"] == 0.2


def test_the_two_schedules_of_the_book() -> None:
    assert [constant(p) for p in (0.0, 0.3, 1.0)] == [1.0, 1.0, 1.0]
    assert (linear_decay(0.0), linear_decay(1.0)) == (1.0, pytest.approx(1e-3)) and linear_decay(0.5) == pytest.approx(0.5005)


def test_steps_go_by_the_rate_of_before() -> None:
    """Plain descent by hand, with the rate of each step; the first is taken at full rate."""
    method, g = Line(linear_decay), generator(3)
    trainer = Trainer(method, steps=4)
    for k in range(3):
        a, b = method.a.item(), method.b.item()
        eps = draw_noise(method, 2, generator(3).set_state(g.get_state()))
        trainer.step(two_images(), g)
        assert method.a.item() == pytest.approx(a - 0.1 * linear_decay(k / 4) * (a - b + eps.mean().item()), rel=1e-5)


def test_an_unknown_optimizer_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="optimizer of a is 'lion'"):
        Trainer(Line(optimizer="lion"), 1)
    made_ones = [make_optimizer(Learner("x", (nn.Parameter(torch.ones(1)),), 0.5, name, 0.7)) for name in ("sgd", "adam")]
    assert [type(one) for one in made_ones] == [torch.optim.SGD, torch.optim.Adam]
    assert made_ones[0].param_groups[0]["momentum"] == 0.7 and all(one.param_groups[0]["lr"] == 0.5 for one in made_ones)


def test_noise_comes_from_the_given_generator_alone() -> None:
    found = []
    for seed in (0, 1):
        method, g = Line(), generator(5)
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        Trainer(method, 3).step(two_images(), g)
        assert torch.equal(torch.get_rng_state(), state), "the global generator was used"
        found.append((method.a.item(), g.get_state()))
    assert found[0][0] == found[1][0] and torch.equal(found[0][1], found[1][1])
    assert not torch.equal(found[0][1], generator(5).get_state())
    other = Line()
    Trainer(other, 3).step(two_images(), generator(6))
    assert other.a.item() != found[0][0]


@pytest.mark.parametrize("change", [{}, {"shared_noise": True}, {"updates": "alternating", "inner_phi": 2}])
def test_the_whole_model_uses_no_other_random_numbers(change: dict) -> None:
    model, batch, _ = made(SMALL.but(**change))
    state, g = torch.get_rng_state(), generator(5)
    Trainer(model, 3).step(batch, g)
    assert torch.equal(torch.get_rng_state(), state)
    twin = generator(5)
    draw_noise(model, 5, twin, torch.float64)
    assert torch.equal(g.get_state(), twin.get_state()), "one draw for an iteration, whatever its rounds"


@pytest.mark.parametrize("name, settings_", [
    *((name, {}) for name in METHODS), ("cdlm", {"updates": "alternating", "inner_theta": 2}), ("cdlm", {"features": "pca"}),
    ("cdlm", {"tap": "conv1", "normalization": "batch"}), ("dann", {"alignment": "coral"})])
def test_every_parameter_has_one_learner(name: str, settings_: dict) -> None:
    """Learners share no parameter, leave out only what is frozen, and the rounds name all of them and no others."""
    kind, config = METHODS[name]
    method = kind(config.of(**settings_))
    learned = [id(p) for learner in method.learners() for p in learner.parameters]
    assert len(set(learned)) == len(learned)
    assert set(learned) == {id(p) for p in method.parameters() if p.requires_grad}
    frozen = {part for part, p in method.named_parameters() if not p.requires_grad}
    heads = {f"encoder.{head}.{p}" for head in ("mu", "log_sigma") for p in ("weight", "bias")}  # for a decoder
    whole = ("cdlm", "improved", "source", "dann", "mcd", "unit", "cdrd", "ecdrd", "datl", "stargan")
    assert frozen == (set() if name in whole else heads)
    names = [learner.name for learner in method.learners()]
    assert len(set(names)) == len(names) and {name for each in method.rounds() for name in each.learners} == set(names)


def test_a_round_moves_its_learners_and_no_others() -> None:
    model, batch, eps = made(SMALL)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run_round(Trainer(model, 3), Round("inference", ("phi", "xi")), batch, eps)
    moved = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"encoder", "discriminator"}


def test_gradients_of_one_round_do_not_leak_into_the_next() -> None:
    model, batch, eps = made(SMALL)
    trainer = Trainer(model, 3)
    run_round(trainer, Round("all", ()), batch, eps)
    once = {name: g.clone() for name, g in gradients(model).items()}
    run_round(trainer, Round("all", ()), batch, eps)
    assert all(torch.equal(g, once[name]) for name, g in gradients(model).items())


def test_running_statistics_count_each_batch_once() -> None:
    """One pass and the literal version update batch normalization equally often; encoder and classifier in the same order."""
    found = []
    for how in (fused_losses, literal_losses):
        model, batch, eps = made(SMALL.but(normalization="batch"))
        how(model, batch, eps, 0.7)
        found.append(dict(model.named_buffers()))
        counts = {name.split(".")[0]: layer.num_batches_tracked.item() for name, layer in model.named_modules()
                  if isinstance(layer, ChunkedBatchNorm)}
        assert counts == {"encoder": 2, "decoder": 4, "classifier": 3}
    for name, value in found[0].items():
        if not name.startswith("decoder"):
            assert torch.allclose(value, found[1][name], rtol=1e-12), name


def test_a_second_derivative_through_a_seam_is_refused() -> None:
    network, z = nn.Linear(2, 2), torch.randn(3, 2, requires_grad=True)
    gradient, = torch.autograd.grad(seam(network, z, 3).both.square().sum(), z, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def encoded(seed: int, pairs: int = 4, latent: int = 3) -> Encoded:
    g = generator(seed)
    mu, raw, h = torch.randn(3, pairs, latent, generator=g, dtype=torch.float64)
    return Encoded(mu, raw.exp(), h.sigmoid())


def test_the_four_maps_at_their_limits() -> None:
    s, t, eps = encoded(1), encoded(2), torch.randn(4, 3, dtype=torch.float64, generator=generator())
    plain = s.mu + s.sigma * eps
    assert torch.equal(transfer_code(s, t, eps, "none"), plain)
    assert torch.allclose(transfer_code(s, t, eps, "full", 0.0, 1.0), plain, rtol=1e-15)
    same = t._replace(sigma=s.sigma)                                       # equal spreads: PM1 and PM2 are the plain VAE
    for modulation in ("pm1", "pm2"):
        assert torch.allclose(transfer_code(s, same, eps, modulation), plain, rtol=1e-14)
        assert not torch.allclose(transfer_code(s, t, eps, modulation), plain)
    assert torch.equal(transfer_code(s, t, eps, "pm2"), s.mu + t.sigma * eps)


def test_noise_is_shared_by_all_codes_or_by_none() -> None:
    s, t = encoded(1), encoded(2)
    for count, shared in ((1, True), (4, False)):
        eps = torch.randn(count, 4, 3, dtype=torch.float64, generator=generator())
        codes: Codes = transfer_codes(s, t, eps, "none", 1.0, 1.0)
        noises = [(codes.z_st - s.mu) / s.sigma, (codes.z_ts - t.mu) / t.sigma, codes.u_s - s.h, codes.u_t - t.h]
        assert all(torch.allclose(noises[0], other) for other in noises[1:]) is shared


def test_the_codes_of_the_first_chapter_are_those_of_the_whole_model() -> None:
    s, t = encoded(1), encoded(2)
    noise = torch.stack([torch.randn(4, 3, dtype=torch.float64, generator=g) for g in [generator(3)] for _ in range(4)])
    for one, other in zip(cross_codes(s, t, generator(3), 0.8, 0.3), transfer_codes(s, t, noise, "full", 0.8, 0.3)):
        assert torch.equal(one, other)


def after_steps(config: CDLMConfig, steps: int = 2) -> dict[str, torch.Tensor]:
    model, batch, _ = made(config)
    trainer, g = Trainer(model, steps), generator(7)
    for _ in range(steps):
        trainer.step(batch, g)
    return model.state_dict()


def assert_equal(one: dict, other: dict, but: tuple[str, ...] = ()) -> None:
    for name, value in one.items():
        if not name.startswith(but or ("-",)):
            assert torch.allclose(value, other[name], rtol=1e-10, atol=1e-13), name


def test_no_features_and_all_noise_is_the_plain_vae() -> None:
    """gamma1 = 0, gamma2 = 1 in Eqs. 1-2: the same training as without modulation."""
    weights = {"gamma1": 0.0, "gamma2": 1.0}
    assert_equal(after_steps(SMALL.but(**weights)), after_steps(SMALL.but(**weights, modulation="none")))


def test_each_weight_at_zero_is_the_smaller_model() -> None:
    """A loss of weight 0 might as well not exist: exchanging it for another kind of loss changes nothing."""
    def same(zero: dict, **other: object) -> None:
        assert_equal(after_steps(SMALL.but(**zero)), after_steps(SMALL.but(**zero, **other)))
    same({"lambda1": 0.0}, kl="marginal")
    same({"beta1": 0.0, "beta2": 0.0}, consistency="printed")
    same({"reversal": 0.0}, warm_up=False)
    same({"beta1": 0.0, "beta2": 0.0}, consistency_reaches_encoder=True)


def test_without_adversary_the_discriminator_does_not_matter() -> None:
    one, other = (made(SMALL.but(reversal=0.0))[0] for _ in range(2))
    with torch.no_grad():
        for p in other.discriminator.parameters():
            p.add_(1.0)
    _, batch, _ = made(SMALL)
    for model in (one, other):
        trainer, g = Trainer(model, 2), generator(7)
        trainer.step(batch, g), trainer.step(batch, g)
    assert_equal(one.state_dict(), other.state_dict(), but=("discriminator",))


def test_alternating_updates_one_by_one() -> None:
    """phi moves first; theta then descends objectives made anew from the moved phi, with the same noise."""
    config = SMALL.but(updates="alternating", inner_phi=2, inner_theta=1, optimizer_theta="sgd")
    model, batch, eps = made(config)
    by_hand, _, _ = made(config)
    Trainer(model, steps=10).iterate(batch, eps)
    c = config.updates
    rates = {"encoder": c.lr_phi, "discriminator": c.lr_theta, "decoder": c.lr_theta, "classifier": c.lr_theta}
    velocity = {}
    for parts in (("encoder", "discriminator"), ("encoder", "discriminator"), ("decoder", "classifier")):
        by_hand.zero_grad()
        literal_gradients(by_hand, batch, eps, by_hand.strength(0.0))
        with torch.no_grad():
            for name, p in by_hand.named_parameters():
                part = name.split(".")[0]
                if part in parts:
                    velocity[name] = c.momentum * velocity.get(name, 0) + p.grad
                    p -= rates[part] * velocity[name]
    assert_equal(model.state_dict(), by_hand.state_dict())
    at_once = after = made(config.but(updates="simultaneous"))[0]
    Trainer(at_once, steps=10).iterate(batch, eps)
    assert not torch.allclose(after.decoder[1][0].weight, model.decoder[1][0].weight)


@pytest.mark.parametrize("change, words", [
    ({"modulation": "half"}, "modulation is 'half'; it must be one of full, pm1, pm2, none"),
    ({"kl": "conditional", "gamma2": 0.0}, "needs gamma2 > 0"), ({"inner_phi": 0}, "from 1 to 65536"),
    ({"optimizer_phi": "lion"}, "optimizer_phi is 'lion'")])
def test_settings_that_cannot_be_are_refused(change: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        CDLMConfig.of(**change)


def test_precision_is_one_of_two() -> None:
    with pytest.raises(ValueError, match="float32"):
        Trainer(CDLM(SMALL), 1, precision="half")


def test_bfloat16_gives_nearly_the_gradients_of_float32() -> None:
    gradient = {}
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        model = CDLM(SMALL.but(width=8, latent=8))
        g = generator()
        x_s, x_t = torch.rand(2, 16, 1, 28, 28, generator=g) * 2 - 1
        trainer = Trainer(model, 10, precision)
        losses = run_round(trainer, Round("all", ()), DomainBatch(x_s, torch.arange(16) % 10, x_t), draw_noise(model, 16, g))
        assert all(value.dtype == torch.float32 for value in losses.values())
        gradient[precision] = torch.cat([p.grad.flatten() for p in model.decoder.parameters()])
    cosine = torch.nn.functional.cosine_similarity(gradient["float32"], gradient["bfloat16"], dim=0)
    assert 0.99 < cosine < 1 - 1e-9
