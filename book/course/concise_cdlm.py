"""Cross-domain latent modulation in one file: what `cdlm.CDLM` computes, with its defaults and the same random numbers.

    python book/course/concise_cdlm.py
"""

import torch
import torch.nn.functional as F

from cdlm.data.batches import draw_pair, normalize
from cdlm.domains.samples import load_domain
from cdlm.model.networks import Decoder, Discriminator, Encoder, TaskClassifier

GAMMA1, GAMMA2, BETA1, BETA2, LAMBDA1, LAMBDA2, STRENGTH, LATENT = 1.0, 0.1, 0.1, 0.01, 1e-4, 1e-4, 0.15, 32


def networks():
    """Encoder (phi), decoder (theta), classifier (theta_T), discriminator (Xi)."""
    return Encoder(LATENT), Decoder(LATENT), TaskClassifier(), Discriminator(LATENT)


def error(a, b):
    """Squared error, summed over pixels, averaged over the batch."""
    return (a - b).square().flatten(1).sum(1).mean()


def kl(code):
    """Divergence of the codes from the standard normal prior, in nats."""
    return (0.5 * (code.mu**2 + code.sigma**2 - 1) - code.sigma.log()).sum(1).mean()


def losses(parts, batch, eps):
    """The five losses of a pair of batches for noise (4, batch, latent), before weights other than the betas."""
    encoder, decoder, classifier, discriminator = parts
    s, t = encoder(batch.x_s), encoder(batch.x_t)
    codes = (s.mu + s.sigma * (GAMMA1 * t.h + GAMMA2 * eps[0]), t.mu + t.sigma * (GAMMA1 * s.h + GAMMA2 * eps[1]),
             GAMMA1 * s.h + GAMMA2 * eps[2], GAMMA1 * t.h + GAMMA2 * eps[3])                # z_st, z_ts, u_s, u_t
    x_hat_st, x_hat_ts, x_tilde_s, x_tilde_t = map(decoder, codes)
    return {
        "rec": error(x_hat_st, batch.x_s),
        "kl": kl(s) + kl(t),
        "adv": F.softplus(-discriminator(s.h)).mean() + F.softplus(discriminator(t.h)).mean(),
        "consistency": BETA1 * error(x_hat_st, x_tilde_s) + BETA2 * error(x_hat_ts, x_tilde_t),
        "task": sum(F.cross_entropy(classifier(x), batch.y_s) for x in (batch.x_s, x_hat_st, x_tilde_s)) / 3,
    }


def set_gradients(parts, loss, strength):
    """Who is reached by what: each network gets the gradient of its own sum, the encoder the adversary's reversed."""
    phi = -strength * loss["adv"] + LAMBDA1 * loss["kl"] + LAMBDA2 * loss["rec"] + loss["task"]
    theta = loss["rec"] + loss["consistency"] + loss["task"]
    for part, goal in zip(parts, (phi, theta, loss["task"], loss["adv"])):
        for p, g in zip(part.parameters(), torch.autograd.grad(goal, list(part.parameters()), retain_graph=True)):
            p.grad = g


def train(source, target, steps, seed=0, batch_size=64):
    """Trained networks and the losses of each step."""
    torch.manual_seed(seed)
    parts, generator, log = networks(), torch.Generator().manual_seed(seed), []
    encoder, *rest = parts
    optimizers = [torch.optim.SGD(encoder.parameters(), 0.05, 0.9), *(torch.optim.Adam(p.parameters(), 1e-3) for p in rest)]
    schedules = [torch.optim.lr_scheduler.LambdaLR(each, lambda k: 1 - 0.999 * k / steps) for each in optimizers]
    for step in range(steps):
        batch = draw_pair(source, target, batch_size, generator)
        loss = losses(parts, batch, torch.randn(4, batch_size, LATENT, generator=generator))
        set_gradients(parts, loss, STRENGTH * (2 / (1 + torch.tensor(-10 * step / steps).exp().item()) - 1))
        for each in (*optimizers, *schedules):
            each.step()
        log.append({name: value.item() for name, value in loss.items()})
    return parts, log


if __name__ == "__main__":
    mnist, optdigits = load_domain("mnist"), load_domain("optdigits")
    (encoder, decoder, classifier, _), log = train(mnist.train, optdigits.train, steps=300)
    with torch.no_grad():
        drawn = decoder(GAMMA1 * encoder(normalize(optdigits.test.images)).h)
    right = classifier(drawn).argmax(1) == optdigits.test.labels
    print(f"last losses {log[-1]}; target accuracy {right.float().mean():.3f}")
