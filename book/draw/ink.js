/* From strokes to the image that the networks see, in the way of either collection.

   A stroke is a list of points [x, y] in the unit square, y down. An image is 784 bytes, row by row, 0 paper and 255 ink. */
"use strict";

const cdlmInk = (() => {
  const SIDE = 28;

  /** Where the points of all strokes lie: left, top, right, bottom. */
  function box(strokes) {
    const xs = strokes.flat().map((p) => p[0]), ys = strokes.flat().map((p) => p[1]);
    return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
  }

  /** Strokes enlarged or reduced so that with a pen of this radius their longer side is `side`, their box around `center`. */
  function fitted(strokes, side, radius, center) {
    const [left, top, right, bottom] = box(strokes), longer = Math.max(right - left, bottom - top);
    const scale = longer > 0.02 ? (side - 2 * radius) / longer : 0;      // a dot stays a dot
    const place = (v, from, to) => center + (v - (from + to) / 2) * scale;
    return strokes.map((stroke) => stroke.map(([x, y]) => [place(x, left, right), place(y, top, bottom)]));
  }

  /** Distance from a point to a line from a to b. */
  function distance(x, y, a, b) {
    const dx = b[0] - a[0], dy = b[1] - a[1], length = dx * dx + dy * dy;
    const t = length ? Math.min(1, Math.max(0, ((x - a[0]) * dx + (y - a[1]) * dy) / length)) : 0;
    return Math.hypot(x - a[0] - t * dx, y - a[1] - t * dy);
  }

  /** Share of ink, 0 to 1, of each pixel of a square, for a round pen; edges are smoothed over one pixel. */
  function drawn(strokes, side, radius) {
    const ink = new Float64Array(side * side);
    for (const stroke of strokes) {
      for (let i = 0; i < Math.max(1, stroke.length - 1); i++) {
        const a = stroke[i], b = stroke[Math.min(i + 1, stroke.length - 1)], far = radius + 1;
        const from = (u, v) => Math.max(0, Math.floor(Math.min(u, v) - far)), to = (u, v) => Math.min(side, Math.ceil(Math.max(u, v) + far));
        for (let row = from(a[1], b[1]); row < to(a[1], b[1]); row++) {
          for (let column = from(a[0], b[0]); column < to(a[0], b[0]); column++) {
            const share = radius + 0.5 - distance(column + 0.5, row + 0.5, a, b);
            ink[row * side + column] = Math.max(ink[row * side + column], Math.min(1, Math.max(0, share)));
          }
        }
      }
    }
    return ink;
  }

  /** Center of mass [x, y] of a square of ink. */
  function center(ink, side) {
    let x = 0, y = 0, sum = 0;
    ink.forEach((value, i) => {
      x += value * ((i % side) + 0.5);
      y += value * (Math.floor(i / side) + 0.5);
      sum += value;
    });
    return sum ? [x / sum, y / sum] : [side / 2, side / 2];
  }

  /** As MNIST was made: the longer side is 20 pixels, the center of mass in the middle of 28, edges gray. */
  function asMnist(strokes) {
    const radius = 1.25;
    let placed = fitted(strokes, 20, radius, SIDE / 2);
    for (let again = 0; again < 2; again++) {
      const [x, y] = center(drawn(placed, SIDE, radius), SIDE);
      placed = placed.map((stroke) => stroke.map((p) => [p[0] + SIDE / 2 - x, p[1] + SIDE / 2 - y]));
    }
    return Uint8Array.from(drawn(placed, SIDE, radius), (share) => Math.round(255 * share));
  }

  /** Rounded; halves to the even side, as PyTorch does. */
  function rounded(v) {
    const down = Math.floor(v);
    return v - down === 0.5 ? down + (down % 2) : Math.round(v);
  }

  /** Counters of ink, 8 by 8 from 0 to 16, as an image: what load_optdigits of cdlm.domains.samples does. */
  function fromCounters(counters) {
    const image = new Uint8Array(SIDE * SIDE), at = (i) => Math.max(0, (i + 0.5) * (8 / 20) - 0.5);
    for (let row = 0; row < 20; row++) {
      for (let column = 0; column < 20; column++) {
        const y = at(row), x = at(column), top = Math.floor(y), left = Math.floor(x), dy = y - top, dx = x - left;
        const below = Math.min(7, top + 1), right = Math.min(7, left + 1);
        const ink = (1 - dy) * ((1 - dx) * counters[8 * top + left] + dx * counters[8 * top + right])
          + dy * ((1 - dx) * counters[8 * below + left] + dx * counters[8 * below + right]);
        image[(row + 4) * SIDE + column + 4] = rounded((Math.round(ink * 100) * 255) / 1600);
      }
    }
    return image;
  }

  /** As the optical digits were made: a black and white picture of 32 pixels, its ink counted in blocks of 4 by 4. */
  function asOptical(strokes) {
    const radius = 2.2, counters = new Uint8Array(64);
    drawn(fitted(strokes, 32, radius, 16), 32, radius).forEach((share, i) => {
      if (share >= 0.5) counters[8 * Math.floor(i / 128) + Math.floor((i % 32) / 4)] += 1;
    });
    return fromCounters(counters);
  }

  /** Bytes as the networks see them, in [-1, 1]. */
  const scaled = (image) => Float32Array.from(image, (byte) => byte / 127.5 - 1);
  const inverted = (image) => image.map((byte) => 255 - byte);

  return { SIDE, asMnist, asOptical, fromCounters, scaled, inverted, center };
})();
