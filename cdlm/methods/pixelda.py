"""PixelDA: source images redrawn as target images, by a generator that the classifier corrects.

Generated from book/src/78b_neighbors_pixels.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdlm.data.batches import DomainBatch
from cdlm.methods.backbone import BackboneConfig, OnFeatures
from cdlm.methods.base import Now, Round
from cdlm.methods.cdlm import full
from cdlm.methods.generators import PatchDiscriminator, Redrawer, fooling_loss
from cdlm.model.losses import adversarial_loss
from cdlm.settings import Amount, Count, Images

__all__ = ["NoisyRedrawer", "PixelDA", "PixelDAConfig", "pairwise_error", "pixelda_step"]


# 78b_neighbors_pixels: PixelDA: a generator that must not disturb the classifier

@dataclass(frozen=True)
class PixelDAConfig(BackboneConfig):
    """Settings of PixelDA (Bousmalis et al., 2017); the authors' program is that for MNIST and
    MNIST-M.

    They train by Adam with rate 1e-3 and momentum 0.5, cut gradients at norm 5, and see
    sixteen million images. The classifier's first convolution is there twice, one for source
    images; ours is the same for all. Their weight of L_domain is left out: Adam has no use for
    it.
    """

    style: Amount = 0.0113173311334     # w_g, the weight of L_style for the generator
    task: Amount = 0.0100959947002      # w_t, of the classifier's loss for the generator
    # of L_similarity, over all pixels; 1 is the default of their program, which has it for
    # objects before black alone, and none for digits
    similarity: Amount = 0.0
    real: Amount = 1.0                  # of source images in the classifier's loss
    drawn: Amount = 1.0                 # of drawings in it
    noise_length: Count = 10            # of z
    # deviation of normal noise on what the discriminator reads; theirs is on its hidden layers
    blur: Amount = 0.2


def pairwise_error(x: Tensor, drawn: Tensor, mask: Tensor | None = None) -> Tensor:
    """L_similarity of images (B, ...), averaged over the batch, a scalar; ``mask`` (B, ...) is
    1 where the object is, None for everywhere."""
    mask = torch.ones_like(x) if mask is None else mask
    d, k = ((x - drawn) * mask).flatten(1), mask.flatten(1).sum(1).clamp_min(1)
    return (d.square().sum(1) / k - (d.sum(1) / k).square()).mean()


class NoisyRedrawer(nn.Module):
    """A ``Redrawer`` of images (B, C, S, S) that is told noise (B, length), as one more
    plane."""

    def __init__(self, length: int, size: int, channels: int = 1, width: int = 16,
                 normalization: str = "group") -> None:
        super().__init__()
        self.spread = nn.Linear(length, size**2)
        self.redraw = Redrawer(channels, width, extra=1, normalization=normalization)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.redraw(x, self.spread(z).view(len(x), 1, *x.shape[2:]))


class PixelDA(OnFeatures):
    """A classifier of source images and of what a generator makes of them in the style of the
    target."""

    def __init__(self, config: PixelDAConfig | None = None,
                 images: Images | None = None) -> None:
        super().__init__(config or PixelDAConfig(), images)
        c, n, x = self.config, self.config.networks, self.images
        self.generator = NoisyRedrawer(c.noise_length, x.size, x.channels, n.width,
                                       n.normalization)
        self.discriminator = PatchDiscriminator(x.channels, n.width, n.normalization)
        self.noise = (1, c.noise_length + 2 * x.channels * x.size**2)

    def readers(self) -> dict[str, nn.Module]:
        """Classifier, generator and discriminator."""
        return super().readers() | {"theta_G": self.generator, "xi": self.discriminator}

    def rounds(self) -> tuple[Round, ...]:
        """First who judges drawings, then who makes them."""
        return Round("judge", ("phi", "theta_T", "xi")), Round("draw", ("theta_G",))

    def redraw(self, x_s: Tensor, eps: Tensor) -> Tensor:
        """Drawings of source images (B, C, H, W) with the first numbers of noise (1, B,
        length)."""
        share = torch.special.ndtr(eps[0, :, :self.config.noise_length])    # uniform in (0, 1)
        return self.generator(x_s, 2 * share - 1)

    def judge(self, x: Tensor, eps: Tensor, which: int) -> Tensor:
        """Scores of images (B, C, H, W), blurred by the first or second part of the noise."""
        first = self.config.noise_length + which * x[0].numel()
        blur = eps[0, :, first:first + x[0].numel()].view_as(x)
        return full(self.discriminator(x + self.config.blur * blur))

    def forward(self, batch: DomainBatch, eps: Tensor,
                now: Now) -> tuple[Tensor, dict[str, Tensor]]:
        """What the learners of a round descend; see ``pixelda_step``."""
        return pixelda_step(self, batch, eps, now.round)


def pixelda_step(method: PixelDA, batch: DomainBatch, eps: Tensor,
                 step: str) -> tuple[Tensor, dict[str, Tensor]]:
    """Objective and losses of the round "judge" or "draw".

    "kept" is the classifier's loss on drawings as the generator sees it.
    """
    c = method.config
    with torch.set_grad_enabled(step == "draw"):
        drawn = method.redraw(batch.x_s, eps)
    score = method.judge(drawn, eps, 0)
    if step == "judge":
        g_s, g_d = method.classify(*method.encode(batch.x_s, drawn))
        found = {"task": F.cross_entropy(g_s, batch.y_s),
                 "drawn": F.cross_entropy(g_d, batch.y_s),
                 "domain": adversarial_loss(method.judge(batch.x_t, eps, 1), score)}
        return c.real * found["task"] + c.drawn * found["drawn"] + found["domain"], found
    g_d, = method.classify(*method.encode(drawn))
    found = {"style": fooling_loss(score), "kept": F.cross_entropy(g_d, batch.y_s),
             "similarity": pairwise_error(batch.x_s, full(drawn))}
    return (c.style * found["style"] + c.task * found["kept"]
            + c.similarity * found["similarity"], found)
