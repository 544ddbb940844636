// The numbers behind the sliders: plain functions of plain numbers, in the order of cdlm/widgets.py, which has the same.
"use strict";
window.cdlmLive = (() => {
  const square = (x) => x * x;
  const normal = (x, mean, sigma) => Math.exp(-square((x - mean) / sigma) / 2) / (sigma * Math.sqrt(2 * Math.PI));

  // Moments of a modulated code with mu_s = 0: Eqs. 3 and 4, Eqs. 5 and 6, and their differences.
  function moments({ gamma1, gamma2, sigma_s, mu_h, sigma_h, mu_t, sigma_t }) {
    const mean = gamma1 * sigma_s * mu_h;
    const sigma = sigma_s * Math.hypot(gamma1 * sigma_h, gamma2);
    const short_mean = gamma1 * mu_t;
    const short_sigma = gamma1 * sigma_s * sigma_t;
    return { mean, sigma, short_mean, short_sigma, mean_error: mean - short_mean, sigma_error: sigma - short_sigma };
  }

  // erf by Abramowitz and Stegun, 7.1.26: off by less than 2e-7, for a curve to look at.
  function erf(x) {
    const t = 1 / (1 + 0.3275911 * Math.abs(x));
    const series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return Math.sign(x) * (1 - series * Math.exp(-x * x));
  }

  // Density of the code at z for a feature with these two moments and one of three shapes. Nothing is drawn as a needle:
  // the noise has at least the deviation `least`.
  function density(z, shape, { gamma1, gamma2, sigma_s, mu_h, sigma_h }, least = 0) {
    const center = gamma1 * sigma_s * mu_h;
    const spread = gamma1 * sigma_s * sigma_h;
    const noise = Math.max(sigma_s * gamma2, least);
    if (shape === "coin") return (normal(z, center - spread, noise) + normal(z, center + spread, noise)) / 2;
    const half = Math.sqrt(3) * spread;
    if (shape === "uniform" && half > noise / 100) {
      const below = (edge) => erf((z - edge) / (noise * Math.SQRT2));
      return (below(center - half) - below(center + half)) / (4 * half);
    }
    return normal(z, center, Math.hypot(spread, noise));
  }

  // The decoder of the chapter on the VAE: a code to a point on a loop, NOISE away from which points lie.
  const NOISE = 0.15;
  const loop = (z) => [z * z - 1, z * z * z - z];
  const POINTS = { A: loop(0.4), B: [0, 0] };

  function logJoint(z, [x1, x2]) {
    const [d1, d2] = loop(z);
    const likelihood = -(square(x1 - d1) + square(x2 - d2)) / (2 * square(NOISE)) - Math.log(2 * Math.PI * square(NOISE));
    return likelihood - (z * z + Math.log(2 * Math.PI)) / 2;
  }

  // log p(x), the integral as a sum over 4001 codes from -5 to 5.
  function logEvidence(x) {
    let sum = 0;
    for (let i = 0; i <= 4000; i++) sum += Math.exp(logJoint(-5 + i / 400, x)) / 400;
    return Math.log(sum);
  }
  const EVIDENCE = { A: logEvidence(POINTS.A), B: logEvidence(POINTS.B) };
  const posterior = (z, point) => Math.exp(logJoint(z, POINTS[point]) - EVIDENCE[point]);

  // Reconstruction and price of q = N(mean, std^2), by the moments of a normal number, as the decoder is a polynomial.
  function bound({ mean: m, std: s, point }) {
    const [x1, x2] = POINTS[point];
    const v = s * s;
    const z2 = m * m + v;
    const z3 = m * (m * m + 3 * v);
    const z4 = m ** 4 + 6 * m * m * v + 3 * v * v;
    const z6 = m ** 6 + 15 * m ** 4 * v + 45 * m * m * v * v + 15 * v ** 3;
    const first = z4 - 2 * (1 + x1) * z2 + square(1 + x1);
    const second = z6 - 2 * z4 + z2 - 2 * x2 * z3 + 2 * x2 * m + x2 * x2;
    const reconstruction = -(first + second) / (2 * square(NOISE)) - Math.log(2 * Math.PI * square(NOISE));
    const price = (m * m + v - 1) / 2 - Math.log(s);
    const elbo = reconstruction - price;
    return { reconstruction, price, elbo, gap: EVIDENCE[point] - elbo, evidence: EVIDENCE[point] };
  }

  // The q with the largest bound among those that the sliders can show.
  function bestNormal(point) {
    let best = { elbo: -Infinity };
    for (let i = -200; i <= 200; i++) {
      for (let j = 2; j <= 150; j++) {
        const { elbo } = bound({ mean: i / 100, std: j / 100, point });
        if (elbo > best.elbo) best = { elbo, mean: i / 100, std: j / 100 };
      }
    }
    return best;
  }

  // Two clouds of the shapes of the chapter on the adversary, without chance: quantiles of the radius, turned by the golden angle.
  const COUNT = 80;
  function cloud(x, y) {
    return Array.from({ length: COUNT }, (_, i) => {
      const radius = Math.sqrt(-2 * Math.log(1 - (i + 0.5) / COUNT));
      const angle = i * Math.PI * (3 - Math.sqrt(5));
      return [x + radius * Math.cos(angle), y + 0.6 * radius * Math.sin(angle)];
    });
  }
  const SOURCE = cloud(0, 0);
  const TARGET = cloud(2, 1.5);
  const mean = (points) => [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
  const sigmoid = (x) => 1 / (1 + Math.exp(-x));
  const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

  // The game with a linear guesser w, b: before each step phi, the loss and the guesser. Both descend at rate 1, and phi hears
  // the gradient reversed and multiplied by the strength.
  function game(strength, steps) {
    let [w1, w2, b, f1, f2] = [0, 0, 0, 0, 0];
    const told = [];
    for (let step = 0; step <= steps; step++) {
      let [loss, g1, g2, gb, gt] = [0, 0, 0, 0, 0];
      for (const [x, y] of SOURCE) {
        const logit = w1 * x + w2 * y + b;
        const slope = -sigmoid(-logit) / COUNT;
        loss += softplus(-logit) / COUNT;
        g1 += slope * x;
        g2 += slope * y;
        gb += slope;
      }
      for (const [x, y] of TARGET) {
        const logit = w1 * (x + f1) + w2 * (y + f2) + b;
        const slope = sigmoid(logit) / COUNT;
        loss += softplus(logit) / COUNT;
        g1 += slope * (x + f1);
        g2 += slope * (y + f2);
        gb += slope;
        gt += slope;
      }
      told.push({ phi: [f1, f2], loss, w: [w1, w2], b });
      [f1, f2] = [f1 + strength * gt * w1, f2 + strength * gt * w2];
      [w1, w2, b] = [w1 - g1, w2 - g2, b - gb];
    }
    return told;
  }

  function reversal({ strength, step }) {
    const told = game(strength, step);
    const from = mean(SOURCE);
    const to = mean(TARGET);
    const gap = ({ phi }) => Math.hypot(to[0] + phi[0] - from[0], to[1] + phi[1] - from[1]);
    return { loss_0: told[0].loss, loss: told[step].loss, gap_0: gap(told[0]), gap: gap(told[step]) };
  }

  return { moments, density, erf, loop, POINTS, logJoint, logEvidence, posterior, bound, bestNormal, SOURCE, TARGET, game,
           reversal };
})();
