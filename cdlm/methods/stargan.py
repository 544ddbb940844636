"""StarGAN: one network that is told in the hand of which domain to draw.

Generated from book/src/78c_neighbors_codes.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdlm.data.batches import DomainBatch
from cdlm.methods.base import Learner, Method, Now, Round
from cdlm.methods.coupled import by_adam
from cdlm.methods.generators import Redrawer
from cdlm.model.networks import TaskClassifier, conv_block, ungrouped
from cdlm.settings import Amount, Count, Images, Settings, Width

__all__ = [
    "DomainCritic",
    "StarGAN",
    "StarGANConfig",
    "StarGANNetworks",
    "domain_critic",
    "domain_drawing",
    "gradient_penalty",
]


# 78c_neighbors_codes: StarGAN: one network, told in whose hand

def gradient_penalty(critic: Callable[[Tensor], Tensor], x: Tensor, drawn: Tensor,
                     share: Tensor) -> Tensor:
    """Mean squared difference from 1 of the slope of a critic, which gives a number (B,) for
    images (B, C, H, W), at points between images ``x`` and ``drawn``, of which the former has
    a ``share`` (B,)."""
    share = share.view(-1, *[1] * (x.dim() - 1))
    between = (share * x + (1 - share) * drawn).detach().requires_grad_()
    slope, = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (slope.flatten(1).norm(dim=1) - 1).square().mean()


@dataclass(frozen=True)
class StarGANConfig(Settings):
    """Settings of StarGAN; the authors' program is that for faces (Choi et al., 2018).

    They train for 200,000 iterations in batches of 16 with a rate of 1e-4, which falls to 0
    over the second half, Adam's first moment at 0.5, and a generator many times as large, with
    six residual blocks where ours has one.
    """

    domain: Amount = 1.0                # weight of the domain's name, theirs
    cycle: Amount = 10.0                # of the way back, theirs
    penalty: Amount = 10.0              # of the gradient penalty, theirs
    # steps of the discriminator in an iteration; theirs are 5, each on a batch of its own
    critic: Count = 2
    lr: Amount = 1e-3                   # first rate of Adam, for all networks
    width: Width = 16                   # channels of the classifier's first convolution

    def conflict(self) -> str:
        """A width that cannot be normalized in groups."""
        return ungrouped(self.width, 1)


class DomainCritic(nn.Module):
    """Images (B, C, size, size) to a number (B,), the mean over patches, and logits of their
    domain (B, 2): 0 is the source."""

    def __init__(self, images: Images, width: int) -> None:
        super().__init__()
        wide = 2 * width
        self.body = nn.Sequential(
            nn.PixelUnshuffle(4), conv_block(16 * images.channels, wide, 3, 1, 1, "none"),
            conv_block(wide, wide, 3, 1, 1, "none"))            # (B, 2w, size/4, size/4)
        self.real = nn.Conv2d(wide, 1, 1)
        self.domain = nn.Linear(wide * (images.size // 4) ** 2, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is said of images in [-1, 1]."""
        h = self.body(x)
        return self.real(h).flatten(1).mean(1), self.domain(h.flatten(1))


class StarGANNetworks(Method):
    """The networks of StarGAN and a classifier, and what they draw and answer."""

    def __init__(self, config: StarGANConfig | None = None,
                 images: Images | None = None) -> None:
        super().__init__()
        self.config, self.images = config or StarGANConfig(), images or Images()
        c, x = self.config, self.images
        self.generator = Redrawer(x.channels, c.width, extra=2)
        self.discriminator = DomainCritic(x, c.width)
        self.classifier = TaskClassifier(x.channels, c.width, x.classes, x.size)
        self.noise = (4, 1)             # shares of two domains' images, and whose hand

    def draw(self, x: Tensor, c: Tensor) -> Tensor:
        """Images (B, C, H, W), drawn in the hand of domain c (B,): 0 is the source. The name
        comes as two further channels."""
        name = F.one_hot(c, 2).to(x.dtype).view(-1, 2, *[1] * (x.dim() - 2))
        return self.generator(x, name.expand(-1, -1, *x.shape[2:]))

    def translate(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) of any domain, drawn in the hand of the source."""
        return self.draw(x, torch.zeros(len(x), dtype=torch.int64, device=x.device))

    def features(self, x: Tensor) -> Tensor:
        """What the classifier's last layer reads of the translation of images, (B, 128)."""
        return self.classifier.layers[:-1](self.translate(x))

    def logits(self, x: Tensor) -> Tensor:
        """Class logits (B, classes) of images (B, C, H, W), by their translations."""
        return self.classifier(self.translate(x))


class StarGAN(StarGANNetworks):
    """One generator that is told in the hand of which domain to draw, and a classifier of its
    drawings in the source's."""

    def learners(self) -> list[Learner]:
        """Discriminator, generator and classifier, by Adam."""
        return by_adam(self.config.lr, xi=self.discriminator, theta=self.generator,
                       theta_T=self.classifier)

    def rounds(self) -> tuple[Round, ...]:
        """Several times the discriminator, then generator and classifier."""
        return (*[Round("discriminator", ("xi",))] * self.config.critic,
                Round("generator", ("theta", "theta_T")))

    def forward(self, batch: DomainBatch, eps: Tensor,
                now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        """What the learners of a round descend."""
        x = torch.cat([batch.x_s, batch.x_t])
        c = torch.arange(2, device=x.device).repeat_interleave(len(batch.x_s))
        wanted = (eps[2:] > 0).long().flatten()
        if now.round == "discriminator":
            return domain_critic(self, x, c, wanted, torch.special.ndtr(eps[:2]).flatten())
        objective, found = domain_drawing(self, x, c, wanted)
        read = self.classifier(self.translate(batch.x_s).detach())
        task = F.cross_entropy(read, batch.y_s)
        return objective + task, {"task": task} | found


def domain_critic(method: StarGAN, x: Tensor, c: Tensor, wanted: Tensor,
                  share: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """What StarGAN's discriminator descends, and its losses by name, from images x of domains
    c, the domains that are ``wanted``, and shares, (B,) each, for the penalty."""
    judge, weights = method.discriminator, method.config
    with torch.no_grad():
        drawn = method.draw(x, wanted)
    (real, named), (fake, _) = judge(x), judge(drawn)
    gap, domain = fake.mean() - real.mean(), F.cross_entropy(named, c)
    penalty = gradient_penalty(lambda between: judge(between)[0], x, drawn, share)
    return gap + weights.penalty * penalty + weights.domain * domain, {
        "gap": gap, "penalty": penalty, "domain": domain}


def domain_drawing(method: StarGAN, x: Tensor, c: Tensor,
                   wanted: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """What StarGAN's generator descends, and its losses by name."""
    weights, drawn = method.config, method.draw(x, wanted)
    fake, named = method.discriminator(drawn)
    fooled, taken = -fake.mean(), F.cross_entropy(named, wanted)
    cycle = (x - method.draw(drawn, c)).abs().mean()
    return fooled + weights.domain * taken + weights.cycle * cycle, {
        "fooled": fooled, "taken": taken, "cycle": cycle}
