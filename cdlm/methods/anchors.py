"""What translations are compared with: a network that is told the answers, and an unpaired baseline.

Generated from book/src/84b_translating.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdlm.data.batches import DomainBatch
from cdlm.methods.base import Learner, Now, Round, linear_decay
from cdlm.methods.translation import Translator, as_channels, patch_judge
from cdlm.model.networks import ResidualBlock, conv_block, deconv_block
from cdlm.settings import Amount, Images, Settings, Width

__all__ = [
    "AnchorConfig",
    "Cycle",
    "PairedUNet",
    "UNet",
    "cycle_losses",
    "generator",
    "judged",
]


# 84b_translating: Anchors

class UNet(nn.Module):
    """Images (B, c_in, H, W) to images (B, c_out, H, W) in [-1, 1]: down to an eighth and
    back, with a bridge at each size. H and W are multiples of 8."""

    def __init__(self, c_in: int, c_out: int, width: int = 16) -> None:
        super().__init__()
        counts = [width, 2 * width, 4 * width, 4 * width]
        self.first = conv_block(c_in, width, 3, 1, 1)
        self.down = nn.ModuleList(conv_block(a, b, 4, 2, 1) for a, b in pairwise(counts))
        self.up = nn.ModuleList(deconv_block(b, a, 4, 2, 1)
                                for a, b in list(pairwise(counts))[::-1])
        self.join = nn.ModuleList(conv_block(2 * a, a, 3, 1, 1) for a in counts[-2::-1])
        self.last = nn.Conv2d(width, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        bridges = [self.first(x)]
        for down in self.down:
            bridges.append(down(bridges[-1]))
        y = bridges.pop()
        for up, join in zip(self.up, self.join):
            y = join(torch.cat([up(y), bridges.pop()], 1))
        return self.last(y).tanh()


@dataclass(frozen=True)
class AnchorConfig(Settings):
    """Settings of the networks that translations are compared with."""

    width: Width = 16
    lr: Amount = 1e-3
    cycle: Amount = 10.0                # weight of the way there and back, in absolute error
    drawn: Literal[1, 3] = 3            # channels of the source's images
    read: Literal[1, 3] = 1             # and of the target's


class PairedUNet(Translator):
    """A U-Net that is told the answers: source images are answers, and after them, in further
    channels, what these are drawn from. The target's images are not looked at."""

    noise = (0, 0)

    def __init__(self, config: AnchorConfig | None = None,
                 images: Images | None = None) -> None:
        super().__init__()
        self.config = config or AnchorConfig()
        self.images = images or Images(self.config.drawn + self.config.read, 64, 1)
        self.net = UNet(self.config.read, self.config.drawn, self.config.width)

    def learners(self) -> list[Learner]:
        """The network, by Adam with a rate that falls linearly to 0."""
        return [Learner("net", tuple(self.parameters()), self.config.lr,
                        schedule=linear_decay)]

    def forward(self, batch: DomainBatch, eps: Tensor,
                now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean squared error of the drawing."""
        answer, seen = batch.x_s.split((self.config.drawn, self.config.read), 1)
        error = F.mse_loss(self.net(seen), answer)
        return error, {"error": error}

    def draw(self, x: Tensor, eps: Tensor) -> Tensor:
        """Answers (B, drawn, H, W) to images of the target; noise is not used."""
        return self.net(as_channels(x, self.config.read))


def generator(c_in: int, c_out: int, width: int) -> nn.Sequential:
    """Images to images of one size: a quarter of the side, two residual blocks, and back."""
    return nn.Sequential(
        conv_block(c_in, width, 5, 1, 2), conv_block(width, 2 * width, 4, 2, 1),
        conv_block(2 * width, 4 * width, 4, 2, 1),
        *(ResidualBlock(4 * width, 4 * width) for _ in range(2)),
        deconv_block(4 * width, 2 * width, 4, 2, 1), deconv_block(2 * width, width, 4, 2, 1),
        nn.Conv2d(width, c_out, 3, padding=1), nn.Tanh())


def judged(judge: nn.Module, x: Tensor, real: bool) -> Tensor:
    """Squared error of what a judge says of images, where real ones should get 1, others 0."""
    answer = judge(x)
    return F.mse_loss(answer, torch.full_like(answer, float(real)))


class Cycle(Translator):
    """Two generators and two judges; what is translated there and back has to be itself."""

    noise = (0, 0)

    def __init__(self, config: AnchorConfig | None = None,
                 images: Images | None = None) -> None:
        super().__init__()
        self.config, self.images = config or AnchorConfig(), images or Images(3, 64, 1)
        c = self.config
        self.to_source = generator(c.read, c.drawn, c.width)
        self.to_target = generator(c.drawn, c.read, c.width)
        self.judges = nn.ModuleList(patch_judge(n, c.width) for n in (c.drawn, c.read))

    def learners(self) -> list[Learner]:
        """Generators and judges, each by Adam with a rate that falls linearly to 0."""
        makers = (*self.to_source.parameters(), *self.to_target.parameters())
        parts = {"makers": makers, "judges": tuple(self.judges.parameters())}
        return [Learner(name, part, self.config.lr, schedule=linear_decay)
                for name, part in parts.items()]

    def rounds(self) -> tuple[Round, ...]:
        """First the generators, then the judges."""
        return Round("makers", ("makers",)), Round("judges", ("judges",))

    def forward(self, batch: DomainBatch, eps: Tensor,
                now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        """What the generators, or the judges, descend; see ``cycle_losses``."""
        return cycle_losses(self, batch, now.round)

    def draw(self, x: Tensor, eps: Tensor) -> Tensor:
        """Source-like drawings of images of the target; noise is not used."""
        return self.to_source(as_channels(x, self.config.read))


def cycle_losses(model: Cycle, batch: DomainBatch,
                 who: str) -> tuple[Tensor, dict[str, Tensor]]:
    """Objective and losses of "makers" or "judges"."""
    c, (judge_s, judge_t) = model.config, model.judges
    x_s, x_t = as_channels(batch.x_s, c.drawn), as_channels(batch.x_t, c.read)
    with torch.set_grad_enabled(who == "makers"):
        fake_s, fake_t = model.to_source(x_t), model.to_target(x_s)
    if who == "judges":
        loss = (judged(judge_s, x_s, True) + judged(judge_s, fake_s, False)
                + judged(judge_t, x_t, True) + judged(judge_t, fake_t, False)) / 2
        return loss, {"judges": loss}
    fooled = judged(judge_s, fake_s, True) + judged(judge_t, fake_t, True)
    back = (F.l1_loss(model.to_source(fake_t), x_s) + F.l1_loss(model.to_target(fake_s), x_t))
    return fooled + c.cycle * back, {"fooled": fooled, "back": back}
