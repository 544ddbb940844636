/* The networks of the book in plain JavaScript: the arithmetic of cdlm.model.networks for one image, trunk "unit".

   An image or a layer is a Float32Array with its numbers in PyTorch's order, channel by channel. Sums are in double
   precision. The weights come from model.js, where they are rounded to half precision. */
"use strict";

const cdlmNet = (() => {
  /** Bytes of a base64 string. */
  function bytes(text) {
    const raw = atob(text), out = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
    return out;
  }

  /** Numbers of half precision, two bytes each, the low one first. */
  function halves(text) {
    const raw = bytes(text), out = new Float32Array(raw.length / 2);
    for (let i = 0; i < out.length; i++) {
      const bits = raw[2 * i] | (raw[2 * i + 1] << 8), exponent = (bits >> 10) & 31, fraction = bits & 1023;
      const size = exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024);
      out[i] = bits & 0x8000 ? -size : size;
    }
    return out;
  }

  /** The tensors of a model by name, each a view of one array. */
  function tensors(model) {
    const numbers = halves(model.weights), found = {};
    let start = 0;
    for (const [name, shape] of model.tensors) {
      const count = shape.reduce((a, b) => a * b, 1);
      found[name] = numbers.subarray(start, start + count);
      start += count;
    }
    if (start !== numbers.length) throw new Error("the weights are not those that their list names");
    return found;
  }

  /** Convolution of (channels, side, side) with weights (count, channels, kernel, kernel): for each place of the kernel
      what it covers as one row, zeros beyond the edge, times each row of weights. */
  function convolve(x, channels, side, weight, bias, kernel, stride, padding) {
    const count = bias.length, to = Math.floor((side + 2 * padding - kernel) / stride) + 1;
    const out = new Float32Array(count * to * to), covered = new Float64Array(channels * kernel * kernel);
    for (let place = 0; place < to * to; place++) {
      const top = Math.floor(place / to) * stride - padding, left = (place % to) * stride - padding;
      for (let i = 0, k = 0; i < channels; i++) {
        for (let row = top; row < top + kernel; row++) {
          for (let column = left; column < left + kernel; column++) {
            const within = row >= 0 && row < side && column >= 0 && column < side;
            covered[k++] = within ? x[(i * side + row) * side + column] : 0;
          }
        }
      }
      for (let o = 0, w = 0; o < count; o++) {
        let sum = bias[o];
        for (let k = 0; k < covered.length; k++) sum += covered[k] * weight[w++];
        out[o * to * to + place] = sum;
      }
    }
    return out;
  }

  /** Transposed convolution of (channels, side, side) with weights (channels, count, kernel, kernel): each place of the
      input adds a patch to the output, and what falls beyond the edge is lost. */
  function deconvolve(x, channels, side, weight, bias, kernel, stride, padding) {
    const count = bias.length, to = (side - 1) * stride - 2 * padding + kernel;
    const sums = new Float64Array(count * to * to), patch = new Float64Array(count * kernel * kernel);
    for (let o = 0; o < count; o++) sums.fill(bias[o], o * to * to, (o + 1) * to * to);
    for (let place = 0; place < side * side; place++) {
      patch.fill(0);
      for (let i = 0, w = 0; i < channels; i++) {
        const value = x[i * side * side + place];
        for (let k = 0; k < patch.length; k++) patch[k] += value * weight[w++];
      }
      const top = Math.floor(place / side) * stride - padding, left = (place % side) * stride - padding;
      for (let o = 0, k = 0; o < count; o++) {
        for (let row = top; row < top + kernel; row++) {
          for (let column = left; column < left + kernel; column++, k++) {
            if (row >= 0 && row < to && column >= 0 && column < to) sums[(o * to + row) * to + column] += patch[k];
          }
        }
      }
    }
    return Float32Array.from(sums);
  }

  /** Group normalization over sixteen channels of one image, then LeakyReLU with slope 0.01; changes x. */
  function normalize(x, channels, weight, bias) {
    const groups = Math.max(1, Math.floor(channels / 16)), size = x.length / groups, area = x.length / channels;
    for (let g = 0; g < groups; g++) {
      let mean = 0, variance = 0;
      for (let i = g * size; i < (g + 1) * size; i++) mean += x[i] / size;
      for (let i = g * size; i < (g + 1) * size; i++) variance += (x[i] - mean) ** 2 / size;
      const scale = 1 / Math.sqrt(variance + 1e-5);
      for (let i = g * size; i < (g + 1) * size; i++) {
        const channel = Math.floor(i / area), value = (x[i] - mean) * scale * weight[channel] + bias[channel];
        x[i] = value >= 0 ? value : 0.01 * value;
      }
    }
    return x;
  }

  function linear(x, weight, bias) {
    const out = new Float32Array(bias.length);
    for (let o = 0; o < out.length; o++) {
      let sum = bias[o];
      for (let i = 0; i < x.length; i++) sum += x[i] * weight[o * x.length + i];
      out[o] = sum;
    }
    return out;
  }

  function softmax(logits) {
    const most = Math.max(...logits), powers = Array.from(logits, (x) => Math.exp(x - most));
    const sum = powers.reduce((a, b) => a + b, 0);
    return Float32Array.from(powers, (p) => p / sum);
  }

  /** The three networks with the weights of a model: encode an image, draw a code, read an image. */
  function networks(model) {
    const w = tensors(model), width = model.width;
    const head = (name, x) => linear(x, w[`${name}.weight`], w[`${name}.bias`]);

    /** Convolution, or a transposed one, with normalization and LeakyReLU. */
    function block(name, way, x, channels, side, kernel, stride, padding) {
      const bias = w[`${name}.0.bias`], out = way(x, channels, side, w[`${name}.0.weight`], bias, kernel, stride, padding);
      return normalize(out, bias.length, w[`${name}.1.weight`], w[`${name}.1.bias`]);
    }

    /** Two convolutions that take an image to (2 width, 7, 7). */
    function halve(name, x) {
      const first = block(`${name}.0`, convolve, x, 1, 28, 5, 2, 2);
      return block(`${name}.1`, convolve, first, width, 14, 5, 2, 2);
    }

    return {
      /** mu, sigma and h of an image of 784 numbers in [-1, 1]. */
      encode(x) {
        const third = block("encoder.trunk.2", convolve, halve("encoder.trunk", x), 2 * width, 7, 7, 1, 0);
        const features = block("encoder.trunk.3", convolve, third, 4 * width, 1, 1, 1, 0);
        return {
          mu: head("encoder.mu", features),
          sigma: head("encoder.log_sigma", features).map((s) => Math.exp(Math.min(3, Math.max(-6, s)))),
          h: head("encoder.h", features).map((s) => 1 / (1 + Math.exp(-s))),
        };
      },
      /** The image of a code. */
      decode(z) {
        const first = block("decoder.1", deconvolve, z, z.length, 1, 7, 1, 0);
        const second = block("decoder.2", deconvolve, first, 4 * width, 7, 4, 2, 1);
        const third = block("decoder.3", deconvolve, second, 2 * width, 14, 4, 2, 1);
        return convolve(third, width, 28, w["decoder.4.weight"], w["decoder.4.bias"], 1, 1, 0).map(Math.tanh);
      },
      /** Class probabilities of an image. */
      read(x) {
        const hidden = head("classifier.layers.3", halve("classifier.layers", x)).map((v) => Math.max(0, v));
        return softmax(head("classifier.layers.5", hidden));
      },
    };
  }

  /** Standard normal numbers that depend on a seed alone: mulberry32, then Box and Muller. */
  function noise(seed, count) {
    let state = seed >>> 0;
    function uniform() {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = Math.imul(state ^ (state >>> 15), state | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 4294967296;
    }
    return Float32Array.from({ length: count }, () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
  }

  /** The code u_t = gamma1 h_t + gamma2 eps, which x_tilde_t is drawn from. */
  const codeOfFeatures = (h, eps, gamma1, gamma2) => h.map((value, i) => gamma1 * value + gamma2 * eps[i]);

  /** The code z_ts = mu_t + sigma_t (gamma1 h_s + gamma2 eps) of Eq. 2, which x_hat_ts is drawn from. */
  const crossedCode = (t, hSource, eps, gamma1, gamma2) =>
    t.mu.map((mu, i) => mu + t.sigma[i] * (gamma1 * hSource[i] + gamma2 * eps[i]));

  /** All that the page shows of an image: codes, the images drawn from them, and what each is read as. */
  function look(nets, x, hSource, eps, gamma1, gamma2) {
    const t = nets.encode(x), half = eps.length / 2;
    const tilde = nets.decode(codeOfFeatures(t.h, eps.subarray(0, half), gamma1, gamma2));
    const hat = nets.decode(crossedCode(t, hSource, eps.subarray(half), gamma1, gamma2));
    return {
      ...t, images: { x_t: x, x_tilde_t: tilde, x_hat_ts: hat },
      probabilities: { x_t: nets.read(x), x_tilde_t: nets.read(tilde), x_hat_ts: nets.read(hat) },
    };
  }

  return { bytes, halves, networks, noise, look };
})();
