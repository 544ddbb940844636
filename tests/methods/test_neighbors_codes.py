"""Methods on shared codes and on translations: losses by hand, whom each reaches in which round, and what is left without them."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdlm.data.batches import DomainBatch
from cdlm.methods.base import Method, Now, draw_noise
from cdlm.methods.cdrd import CDRD, CDRDConfig, one_hot
from cdlm.methods.coupled import Coupled, CoupledDiscriminator
from cdlm.methods.datl import TRANSITIONS, cut_decoder
from cdlm.methods.ecdrd import ECDRD, ECDRDConfig
from cdlm.methods.registry import METHODS
from cdlm.methods.stargan import DomainCritic, gradient_penalty
from cdlm.methods.unit import draw_both
from cdlm.methods.vae import VAE
from cdlm.model.losses import kl_divergence
from cdlm.model.modulation import reparameterize
from cdlm.model.networks import Decoder
from cdlm.settings import Images, flat
from cdlm.training.engine import Trainer, run_round

CODES = ("unit", "cdrd", "ecdrd", "datl", "stargan")
each_method = pytest.mark.parametrize("name", CODES)
PARTS = ("encoder", "decoder", "decoders", "redraw", "generator", "discriminator", "discriminators", "classifier")
SMALL = {"width": 2, "latent": 3}


def made(name: str, images: Images | None = None, **changes: object) -> Method:
    kind, config = METHODS[name]
    torch.manual_seed(0)
    known = {key: SMALL[key] for key in SMALL if key in flat(config())}
    return kind(config.of(**known | changes), images).double().train()


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(size: int = 6) -> DomainBatch:
    x_s, x_t = random(2, size, 1, 28, 28, seed=1).tanh()
    return DomainBatch(x_s, torch.arange(size) % 4, x_t)


def noise(method: Method, size: int = 6) -> Tensor:
    return draw_noise(method, size, torch.Generator().manual_seed(2), torch.float64)


def step(method: Method, which: int, batch: DomainBatch | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    """Objective and losses of the first round, 0, or of the last one, -1."""
    return method(batch or pair(), noise(method), Now(0.5, method.rounds()[which].name))


def parts(method: Method) -> dict[str, nn.Module]:
    return {part: getattr(method, part) for part in PARTS if hasattr(method, part)}


def reached(method: Method, loss: Tensor) -> set[str]:
    """The networks for which a loss has a gradient that is not 0."""
    found = set()
    for name, part in parts(method).items():
        grads = torch.autograd.grad(loss, list(part.parameters()), retain_graph=True, allow_unused=True)
        if any(g is not None and bool(g.any()) for g in grads):
            found.add(name)
    return found


# Who is reached

JUDGE, JUDGES = {"discriminator"}, {"discriminators"}
FLOWS = {
    "unit": ({"task": JUDGE, "adv": JUDGE, "alike": JUDGE},
             {"fooled": {"encoder", "decoder", *JUDGE}, "kl": {"encoder"}, "rec": {"encoder", "decoder"}}),
    "cdrd": ({"task": JUDGE, "adv": JUDGE, "named": JUDGE},
             {"fooled": {"decoder", *JUDGE}, "drawn": {"decoder", *JUDGE}}),
    "ecdrd": ({"task": JUDGE, "adv": JUDGE, "named": JUDGE},
              {"fooled": {"decoder", *JUDGE}, "drawn": {"decoder", *JUDGE}, "rec": {"encoder", "decoder"}, "kl": {"encoder"}}),
    "datl": ({"adv": JUDGES},
             {"task": {"encoder", "decoders", "classifier"}, "fooled": {"encoder", "decoders", "redraw", *JUDGES},
              "rec": {"encoder", "decoders"}, "kl": {"encoder"}, "content": {"encoder", "decoders", "redraw"}}),
    "stargan": ({"gap": JUDGE, "penalty": JUDGE, "domain": JUDGE},
                {"task": {"classifier"}, "fooled": {"generator", *JUDGE}, "taken": {"generator", *JUDGE}, "cycle": {"generator"}}),
}  # fmt: skip


@pytest.mark.parametrize("which", [0, -1], ids=["first", "last"])
@each_method
def test_each_loss_reaches_its_networks(name: str, which: int) -> None:
    method = made(name)
    assert {loss: reached(method, value) for loss, value in step(method, which)[1].items()} == FLOWS[name][which]


@each_method
def test_a_round_moves_its_learners_alone(name: str) -> None:
    method = made(name)
    trainer = Trainer(method, 9)
    owners = {learner.name: {id(p) for p in learner.parameters} for learner in method.learners()}
    for each in dict.fromkeys(method.rounds()):
        before = {key: p.clone() for key, p in method.named_parameters()}
        run_round(trainer, each, pair(), noise(method))
        moved = {id(p) for key, p in method.named_parameters() if not torch.equal(p, before[key])}
        assert moved and moved <= set().union(*(owners[learner] for learner in each.learners))


def test_the_discriminator_of_stargan_goes_several_times() -> None:
    assert [each.name for each in made("stargan", critic=3).rounds()] == ["discriminator"] * 3 + ["generator"]


# Coupled networks


@pytest.mark.parametrize("own", [1, -1])
def test_coupled_networks_share_what_they_should(own: int) -> None:
    torch.manual_seed(0)
    network, x = Coupled(lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)), own), torch.randn(4, 2)
    assert len(network.shared) == 2 and [len(part) for part in network.own.values()] == [1, 1]
    s, t = network(x, "source"), network(x, "target")
    assert all(torch.equal(a, b) for a, b in zip(network.both(x), (s, t))) and not torch.allclose(s, t)
    s.sum().backward()
    assert network.shared[0].weight.grad is not None and network.own["source"][0].weight.grad is not None
    assert network.own["target"][0].weight.grad is None
    order = [*network.own["target"], *network.shared] if own > 0 else [*network.shared, *network.own["target"]]
    assert torch.equal(nn.Sequential(*order)(x), t)


@each_method
def test_no_weight_is_stored_twice(name: str) -> None:
    """Shared layers are there once, as the format of stored weights asks."""
    state = made(name).state_dict()
    assert len({value.data_ptr() for value in state.values()}) == len(state)


@pytest.mark.parametrize("size, channels", [(28, 1), (32, 3), (64, 3)])
@each_method
def test_images_of_every_size_are_read_and_drawn(name: str, size: int, channels: int) -> None:
    method = made(name, Images(channels, size, 5)).eval()
    x = random(2, channels, size, size).tanh()
    assert method.logits(x).shape == (2, 5)
    if name == "cdrd":
        with pytest.raises(ValueError, match="CDRD draws no images"):
            method.translate(x)
        drawn, other = method.decoder.both(random(2, 8))
        assert drawn.shape == other.shape == x.shape
    else:
        drawn = method.translate(x)
        assert drawn.shape == x.shape and drawn.abs().max() <= 1
    batch = DomainBatch(x, torch.tensor([0, 3]), x.flip(0))
    for each in dict.fromkeys(method.rounds()):
        assert method(batch, noise(method, 2), Now(0.5, each.name))[0].isfinite()


# UNIT


def alone(unit: Method, domain: str) -> VAE:
    """The VAE of one domain, with the weights that UNIT has for it."""
    vae = VAE(latent=3, width=2).double()
    layers = [*unit.encoder.trunk.own[domain], *unit.encoder.trunk.shared], [*unit.decoder.shared, *unit.decoder.own[domain]]
    for mine, theirs in zip((vae.trunk, vae.decoder), layers, strict=True):
        for layer, other in zip(mine, theirs, strict=True):
            layer.load_state_dict(other.state_dict())
    for name in ("mu", "log_sigma"):
        getattr(vae, name).load_state_dict(getattr(unit.encoder, name).state_dict())
    return vae


def test_without_its_game_unit_is_a_pair_of_vaes() -> None:
    """In its value, in the gradient of the shared layers, which is the sum of both, and in that of the target's own layer."""
    method, batch = made("unit", adversarial=0.0), pair()
    torch.nn.init.normal_(method.encoder.log_sigma.weight, std=0.1)
    eps, vaes = noise(method), [alone(method, domain) for domain in ("source", "target")]
    ours, total = method(batch, eps, Now(0.5, "drawing"))[0], 0
    for vae, x, e in zip(vaes, (batch.x_s, batch.x_t), eps, strict=True):
        mu, sigma = vae.encode(x)
        x_hat = vae.decode(mu + sigma * e)
        total = total + 1e-3 * ((x_hat - x) ** 2).flatten(1).sum(1).mean() + 4e-4 * kl_divergence(mu, sigma)
    assert ours.item() == pytest.approx(total.item(), rel=1e-12)
    ours.backward(), total.backward()
    both = vaes[0].mu.weight.grad + vaes[1].mu.weight.grad
    assert torch.allclose(method.encoder.mu.weight.grad, both, rtol=1e-9) and bool(both.any())
    own = method.encoder.trunk.own["target"][0][0].weight.grad
    assert torch.allclose(own, vaes[1].trunk[0][0].weight.grad, rtol=1e-9) and bool(own.any())
    assert all(p.grad is None or not p.grad.any() for p in method.discriminator.parameters())


def test_units_divergence_is_theirs_but_for_a_constant() -> None:
    method, mu, sigma = made("unit"), random(5, 3), random(5, 3, seed=1).exp()
    theirs = 1e-4 * 2 * (mu**2 + sigma**2 - (sigma**2).log()).sum(1).mean()
    assert (theirs - 1e-4 * 2 * 3).item() == pytest.approx(method.config.kl * kl_divergence(mu, sigma).item())


def test_unit_draws_each_image_in_both_hands() -> None:
    method, batch = made("unit"), pair()
    eps = noise(method)
    drawn, _ = draw_both(method, batch, eps)
    for x, domain, e, here, there in ((batch.x_s, "source", eps[0], drawn.ss, drawn.st),
                                      (batch.x_t, "target", eps[1], drawn.ts, drawn.tt)):
        z = reparameterize(*method.encoder(x, domain), e)
        assert torch.allclose(here, method.decoder(z, "source")) and torch.allclose(there, method.decoder(z, "target"))
    assert torch.allclose(method.translate(batch.x_t), method.decoder(method.encoder(batch.x_t, "target")[0], "source"))


def test_units_rounds_have_their_objectives() -> None:
    """By binary cross-entropies: of real images whole, of each of two drawings half."""
    method, batch = made("unit", adversarial=0.7, task=3.0, alike=0.01), pair()
    d, (drawn, _) = method.discriminator, draw_both(method, batch, noise(method))
    def bce(x: Tensor, domain: str, truth: float) -> Tensor:
        guess = d(x, domain).real
        return F.binary_cross_entropy_with_logits(guess, torch.full_like(guess, truth))
    game = (bce(batch.x_s, "source", 1) + bce(batch.x_t, "target", 1)
            + (bce(drawn.ss, "source", 0) + bce(drawn.ts, "source", 0)) / 2
            + (bce(drawn.tt, "target", 0) + bce(drawn.st, "target", 0)) / 2)
    alike = sum(((d(a, b).h - d(c, e).h) ** 2).sum(1).mean() for a, b, c, e in (
        (drawn.st, "target", drawn.ss, "source"), (drawn.ts, "source", drawn.tt, "target")))
    task = F.cross_entropy(d(batch.x_s, "source").classes, batch.y_s)
    assert step(method, 0)[0].item() == pytest.approx((0.7 * game + 3 * task + 0.01 * alike).item(), rel=1e-9)
    fooled = sum(bce(x, domain, 1) for x, domain in zip(drawn, ("source", "target") * 2, strict=True))
    found = step(method, -1)
    assert found[1]["fooled"].item() == pytest.approx(fooled.item(), rel=1e-9)
    rest = 1e-3 * found[1]["rec"] + 4e-4 * found[1]["kl"]
    assert found[0].item() == pytest.approx((0.7 * fooled + rest).item(), rel=1e-9)


# CDRD


def test_cdrds_rounds_have_their_objectives() -> None:
    method, batch = made("cdrd", attribute=0.3), pair()
    d, z = method.discriminator, torch.cat([noise(method)[0], one_hot(batch.y_s, batch.x_s, 10)], 1)
    fakes = [d(method.decoder(z, domain), domain) for domain in ("source", "target")]
    reals = [d(batch.x_s, "source"), d(batch.x_t, "target")]
    named = sum(F.cross_entropy(fake.classes, batch.y_s) for fake in fakes)
    game = -sum(real.real.sigmoid().log().mean() + (1 - fake.real.sigmoid()).log().mean()
                for real, fake in zip(reals, fakes, strict=True)) / 2
    judging = game + 0.3 * (named + F.cross_entropy(reals[0].classes, batch.y_s))
    assert step(method, 0)[0].item() == pytest.approx(judging.item(), rel=1e-9)
    drawing = -sum(fake.real.sigmoid().log().mean() for fake in fakes) + 0.3 * named
    assert step(method, -1)[0].item() == pytest.approx(drawing.item(), rel=1e-9)


@pytest.mark.parametrize("which", [0, -1], ids=["first", "last"])
def test_without_names_cdrd_is_a_pair_of_coupled_gans(which: int) -> None:
    """Whatever the second answers are, nobody minds; with names everybody does."""
    values = []
    for attribute in (0.0, 1.0):
        method = made("cdrd", attribute=attribute)
        for scale in (1.0, 3.0):
            nn.init.constant_(method.discriminator.classes.bias, 0.0)
            method.discriminator.classes.bias.data[0] = scale
            values.append(step(method, which)[0].item())
    assert values[0] == values[1] and values[2] != values[3]


def test_the_class_asked_for_is_a_part_of_the_code() -> None:
    method, z = made("cdrd"), random(1, 3)
    drawn = [method.decoder(torch.cat([z, one_hot(torch.tensor([c]), z, 10)], 1), "source") for c in (0, 1)]
    assert not torch.allclose(*drawn)
    assert one_hot(torch.tensor([2]), z, 3).tolist() == [[0.0, 0.0, 1.0]]


def test_e_cdrd_is_cdrd_where_its_encoder_says_nothing() -> None:
    """Codes of mean 0 and deviation 1 are noise; the game is that of CDRD, for other labels of the same batch."""
    method, batch = made("ecdrd"), pair()
    for head in (method.encoder.mu, method.encoder.log_sigma):
        nn.init.zeros_(head.weight), nn.init.zeros_(head.bias)
    cdrd = CDRD(CDRDConfig.of(width=2, latent=3)).double()
    cdrd.load_state_dict({name: value for name, value in method.state_dict().items() if not name.startswith("encoder")})
    eps = noise(method)
    as_noise = torch.cat([eps[0, :3], eps[1, 3:]])[None]
    rolled = DomainBatch(batch.x_s, batch.y_s.roll(1), batch.x_t)
    theirs = cdrd(rolled, as_noise, Now(0.5, "generator"))
    ours = method(batch, eps, Now(0.5, "generator"))
    assert all(ours[1][name].item() == pytest.approx(value.item(), rel=1e-12) for name, value in theirs[1].items())
    added = 1e-3 * ours[1]["rec"] + 4e-4 * ours[1]["kl"]
    assert ours[1]["kl"].item() == 0 and ours[0].item() == pytest.approx((theirs[0] + added).item(), rel=1e-12)


def test_e_cdrd_translates_as_the_class_that_it_reads() -> None:
    method = made("ecdrd").eval()
    x = pair().x_t
    nn.init.zeros_(method.discriminator.classes.weight)
    drawn = []
    for sure in (4, 7):
        nn.init.zeros_(method.discriminator.classes.bias)
        method.discriminator.classes.bias.data[sure] = 1e3
        z = torch.cat([method.encoder(x, "target")[0], one_hot(torch.full((6,), sure), x, 10)], 1)
        drawn.append(method.translate(x))
        assert torch.allclose(drawn[-1], method.decoder(z, "source"))
    assert not torch.allclose(*drawn)


# DATL


@pytest.mark.parametrize("size, convolutions", [(28, 4), (64, 5)])
def test_halves_are_of_one_decoder(size: int, convolutions: int) -> None:
    for low in (1, 2, 3):
        torch.manual_seed(0)
        high, rest = cut_decoder(3, Images(size=size), 2, low)
        torch.manual_seed(0)
        whole, z = Decoder(3, 1, 2, size), torch.randn(2, 3)
        assert torch.equal(rest(high(z)), whole(z))
        def count(part: nn.Module) -> int:
            return sum(isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) for module in part.modules())
        assert (count(rest), count(high)) == (low, convolutions - low)


def test_transitions_cross_the_domains() -> None:
    assert TRANSITIONS == {"st": ("source", "target"), "ts": ("target", "source")}
    method, z = made("datl"), random(2, 3)
    high, low = method.decoders["source"][0], method.decoders["target"][1]
    assert torch.equal(method.graft(z, *TRANSITIONS["st"]), low(high(z)))
    x = pair().x_t
    redrawn = method.redraw["st"](low(high(method.encoder(x, "target")[0])))
    assert torch.equal(method.translate(x), redrawn) and torch.equal(method.logits(x), method.classifier(redrawn))


def test_datls_rounds_have_their_objectives() -> None:
    method, batch = made("datl", adversarial=0.7, content=0.2), pair()
    eps = noise(method)
    s, t = method.encoder(batch.x_s, "source"), method.encoder(batch.x_t, "target")
    z_s, z_t = s[0] + s[1] * eps[0], t[0] + t[1] * eps[1]
    game = fooled = content = task = 0
    for name, halves in TRANSITIONS.items():
        real, fake = method.graft(z_s, *halves), method.redraw[name](method.graft(z_t, *halves))
        said = [method.discriminators[name](x).sigmoid() for x in (real, fake)]
        game = game - said[0].log().mean() - (1 - said[1]).log().mean()
        fooled = fooled - said[1].log().mean()
        content = content + ((real - fake) ** 2).mean() - ((real - fake).flatten(1).mean(1) ** 2).mean()
        task = task + F.cross_entropy(method.classifier(real), batch.y_s)
    assert step(method, 0)[0].item() == pytest.approx(0.7 * game.item(), rel=1e-9)
    rec = sum(((method.graft(z, d, d) - x) ** 2).sum((1, 2, 3)).mean()
              for z, d, x in ((z_s, "source", batch.x_s), (z_t, "target", batch.x_t)))
    kl = kl_divergence(*s) + kl_divergence(*t)
    whole = task + 0.7 * fooled + 1e-3 * rec + 4e-4 * kl + 0.2 * content
    assert step(method, -1)[0].item() == pytest.approx(whole.item(), rel=1e-9)


def test_without_game_and_content_datl_is_two_vaes_and_a_classifier_of_source_drawings() -> None:
    """What redraws the target is reached by nobody, and other target images move the classifier no other way."""
    found = []
    for sign in (1, -1):
        method, batch = made("datl", adversarial=0.0, content=0.0), pair()
        objective, losses = step(method, -1, DomainBatch(batch.x_s, batch.y_s, sign * batch.x_t))
        vaes = losses["task"] + 1e-3 * losses["rec"] + 4e-4 * losses["kl"]
        assert objective.item() == pytest.approx(vaes.item(), rel=1e-12)
        objective.backward()
        assert all(p.grad is None or not p.grad.any() for p in method.redraw.parameters())
        found.append([p.grad for p in method.classifier.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True)) and bool(found[0][0].any())


# StarGAN


def test_penalty_by_hand() -> None:
    """Half of the squared length has the slope x: at (3, 4) it is 5; at a fifth of it 1, and nothing is to be paid."""
    x, drawn = torch.tensor([[3.0, 4.0]], dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    def critic(x: Tensor) -> Tensor:
        return x.square().sum(1) / 2
    for share, expected in ((1.0, 16.0), (0.2, 0.0), (0.0, 1.0)):
        assert gradient_penalty(critic, x, drawn, torch.tensor([share], dtype=torch.float64)).item() == pytest.approx(expected)


def test_gradient_of_the_penalty_by_hand() -> None:
    """Of a plane with slopes w: 2 (|w| - 1) w / |w|, wherever one stands."""
    w = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    penalty = gradient_penalty(lambda x: x @ w, random(5, 2), random(5, 2, seed=1), torch.rand(5, dtype=torch.float64))
    penalty.backward()
    assert penalty.item() == pytest.approx(16) and w.grad.tolist() == pytest.approx([8 * 3 / 5, 8 * 4 / 5])


def test_points_of_the_penalty_lie_between_image_and_drawing() -> None:
    seen = []
    def critic(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return x.flatten(1).sum(1)
    gradient_penalty(critic, torch.ones(2, 1, 2, 2), torch.zeros(2, 1, 2, 2), torch.tensor([0.25, 1.0]))
    assert seen[0].flatten(1)[:, 0].tolist() == [0.25, 1.0]


def test_stargans_rounds_have_their_objectives() -> None:
    method, batch = made("stargan", penalty=3.0, domain=0.5, cycle=2.0), pair()
    eps, g, d = noise(method), method.draw, method.discriminator
    x, c = torch.cat([batch.x_s, batch.x_t]), torch.tensor([0] * 6 + [1] * 6)
    wanted = (torch.cat([eps[2], eps[3]]) > 0).long().squeeze(1)
    assert len(set(wanted.tolist())) == 2
    share = torch.distributions.Normal(0, 1).cdf(torch.cat([eps[0], eps[1]])).squeeze(1)
    drawn = g(x, wanted)
    critic = (d(drawn)[0].mean() - d(x)[0].mean() + 3 * gradient_penalty(lambda x: d(x)[0], x, drawn, share)
              + 0.5 * F.cross_entropy(d(x)[1], c))
    assert step(method, 0)[0].item() == pytest.approx(critic.item(), rel=1e-6)
    drawing = (-d(drawn)[0].mean() + 0.5 * F.cross_entropy(d(drawn)[1], wanted) + 2 * (x - g(drawn, c)).abs().mean()
               + F.cross_entropy(method.classifier(g(batch.x_s, 0 * batch.y_s)), batch.y_s))
    assert step(method, -1)[0].item() == pytest.approx(drawing.item(), rel=1e-9)


def test_without_weights_stargan_is_a_pair_of_means() -> None:
    """Discriminator and generator pull at the mean answer to drawings, and nobody asks for domains or for a way back."""
    method = made("stargan", penalty=0.0, domain=0.0, cycle=0.0)
    objective, found = step(method, 0)
    assert objective.item() == pytest.approx(found["gap"].item(), rel=1e-12)
    objective, found = step(method, -1)
    assert objective.item() == pytest.approx((found["fooled"] + found["task"]).item(), rel=1e-12)
    objective.backward()
    assert all(not p.grad.any() for p in method.discriminator.domain.parameters())


def test_the_generator_is_told_in_whose_hand_to_draw() -> None:
    method, x = made("stargan"), pair().x_t
    seen = []
    method.generator.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    for c in (0, 1):
        method.draw(x, torch.full((6,), c))
    assert seen[0].shape == (6, 2, 28, 28)
    assert [planes[:, i].unique().tolist() for planes in seen for i in (0, 1)] == [[1.0], [0.0], [0.0], [1.0]]
    assert torch.equal(method.translate(x), method.draw(x, torch.zeros(6, dtype=torch.int64)))
    assert torch.equal(method.logits(x), method.classifier(method.translate(x)))


def test_what_judges_says_a_number_and_a_domain() -> None:
    for size in (28, 32, 64):
        real, domain = DomainCritic(Images(size=size), 2)(torch.zeros(3, 1, size, size))
        assert (real.shape, domain.shape) == ((3,), (3, 2))
    said = CoupledDiscriminator(Images(classes=4), 2)(torch.zeros(3, 1, 28, 28), "target")
    assert [part.shape for part in said] == [(3, 128), (3,), (3, 4)]


# Learning


def test_a_blind_guess_costs_what_it_should() -> None:
    """A discriminator that knows nothing: UNIT 4 log 2, CDRD 2 log 2, for two domains."""
    for name, expected in (("unit", 4), ("cdrd", 2), ("ecdrd", 2)):
        method = made(name)
        nn.init.zeros_(method.discriminator.real.weight), nn.init.zeros_(method.discriminator.real.bias)
        assert step(method, 0)[1]["adv"].item() == pytest.approx(expected * math.log(2))


@pytest.mark.slow
@each_method
def test_it_learns_what_the_source_shows(name: str) -> None:
    """Bright above or bright below: the loss of the source's classes falls by more than half in forty steps."""
    torch.manual_seed(0)
    kind, config = METHODS[name]
    known = {key: value for key, value in {"width": 4, "latent": 4}.items() if key in flat(config())}
    method = kind(config.of(lr=5e-3, **known), Images(classes=2)).train()
    g = torch.Generator().manual_seed(0)
    def images(y: Tensor) -> Tensor:
        x = torch.full((len(y), 1, 28, 28), -0.8)
        x[y == 0, :, :14] = 0.8
        x[y == 1, :, 14:] = 0.8
        return x + 0.1 * torch.randn(x.shape, generator=g)
    trainer, tasks = Trainer(method, 40), []
    for _ in range(40):
        y, other = torch.randint(2, (2, 16), generator=g)
        found = trainer.iterate(DomainBatch(images(y), y, images(other)), draw_noise(method, 16, g))
        tasks.append(found["task"].item())
    assert sum(tasks[-5:]) < sum(tasks[:5]) / 2


def test_settings_that_e_cdrd_shares_are_those_of_cdrd() -> None:
    ours, theirs = flat(ECDRDConfig()), flat(CDRDConfig())
    assert {name: ours[name] for name in theirs} == theirs and issubclass(ECDRD, CDRD)
