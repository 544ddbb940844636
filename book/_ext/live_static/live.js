// Boards of sliders: reads the controls, asks numbers.js, writes the table, draws, and says what has come out.
"use strict";
(() => {
  const { moments, density, loop, POINTS, posterior, bound, bestNormal, SOURCE, TARGET, game, reversal } = window.cdlmLive;
  const COIN = 2 * Math.log(2);
  const PAUSE = 500; // milliseconds without a move after which the result is said
  const WIDTH = 340;
  const HEIGHT = 220;
  const EDGE = { left: 40, right: 8, top: 26, bottom: 36 };

  const signed = (value, digits = 2) => value.toFixed(digits).replace(/^-(?=0\.?0*$)/, "").replace("-", "−");
  const between = (low, high, count) => Array.from({ length: count + 1 }, (_, i) => low + ((high - low) * i) / count);
  const normal = (x, mean, sigma) => Math.exp(-(((x - mean) / sigma) ** 2) / 2) / (sigma * Math.sqrt(2 * Math.PI));

  function add(parent, name, attributes, text = "") {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    parent.append(made);
    return made;
  }

  // An empty picture with axes; returns functions that draw into it in the units of the data.
  function sheet(svg, { x, y, xTicks, yTicks, xName, yName, says }) {
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("aria-label", says);
    const across = (value) => EDGE.left + ((value - x[0]) / (x[1] - x[0])) * (WIDTH - EDGE.left - EDGE.right);
    const up = (value) => HEIGHT - EDGE.bottom - ((value - y[0]) / (y[1] - y[0])) * (HEIGHT - EDGE.top - EDGE.bottom);
    const inner = add(svg, "svg", {
      x: EDGE.left, y: EDGE.top, width: WIDTH - EDGE.left - EDGE.right, height: HEIGHT - EDGE.top - EDGE.bottom,
      viewBox: `${EDGE.left} ${EDGE.top} ${WIDTH - EDGE.left - EDGE.right} ${HEIGHT - EDGE.top - EDGE.bottom}`,
    });
    add(svg, "path", { class: "live-axis", d: `M${EDGE.left} ${EDGE.top}V${HEIGHT - EDGE.bottom}H${WIDTH - EDGE.right}` });
    for (const tick of xTicks) {
      add(svg, "path", { class: "live-axis", d: `M${across(tick)} ${HEIGHT - EDGE.bottom}v4` });
      add(svg, "text", { x: across(tick), y: HEIGHT - EDGE.bottom + 15, "text-anchor": "middle" }, signed(tick, 0));
    }
    for (const tick of yTicks) {
      add(svg, "path", { class: "live-axis", d: `M${EDGE.left} ${up(tick)}h-4` });
      add(svg, "text", { x: EDGE.left - 6, y: up(tick) + 4, "text-anchor": "end" }, signed(tick, 0));
    }
    const middle = EDGE.left + (WIDTH - EDGE.left - EDGE.right) / 2;
    add(svg, "text", { x: middle, y: HEIGHT - 4, "text-anchor": "middle" }, xName);
    add(svg, "text", { x: 14, y: HEIGHT / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${HEIGHT / 2})` }, yName);
    let named = EDGE.left + 4;
    const path = (points) => "M" + points.map(([a, b]) => `${across(a).toFixed(1)} ${up(b).toFixed(1)}`).join("L");
    return {
      line: (points, kind) => add(inner, "path", { class: `live-line ${kind}`, d: path(points) }),
      area: (points, kind) => {
        const closed = [[points[0][0], 0], ...points, [points.at(-1)[0], 0]];
        add(inner, "path", { class: `live-area ${kind}`, d: `${path(closed)}Z` });
      },
      dots: (points, kind, r = 2) => {
        for (const [a, b] of points) add(inner, "circle", { class: `live-dot ${kind}`, cx: across(a), cy: up(b), r });
      },
      mark: ([a, b], text) => add(inner, "text", { x: across(a) - 4, y: up(b) + 20, class: "live-mark" }, text),
      name: (text, kind, form = "live-line") => { // a legend above the picture, from left to right
        if (form === "live-line") add(svg, "path", { class: `live-line ${kind}`, d: `M${named} 12h18` });
        if (form === "live-area") add(svg, "rect", { class: `live-area ${kind}`, x: named, y: 7, width: 18, height: 10 });
        if (form === "live-dot") add(svg, "circle", { class: `live-dot ${kind}`, cx: named + 12, cy: 12, r: 4 });
        const made = add(svg, "text", { x: named + 22, y: 16 }, text);
        named += 32 + (made.getComputedTextLength() || 6 * text.length);
      },
    };
  }

  const BOARDS = {
    moments: {
      numbers: moments,
      draw: { codes: drawCodes },
      say: ({ mu_h, sigma_h }, { mean, sigma, short_mean, short_sigma }) => {
        const most = Math.sqrt(mu_h * (1 - mu_h));
        const note = sigma_h > most + 1e-9
          ? ` No feature between 0 and 1 with mean ${signed(mu_h)} varies that much: at most by ${signed(most)}.` : "";
        return `Exact: mean ${signed(mean)}, deviation ${signed(sigma)}. Short: mean ${signed(short_mean)}, `
          + `deviation ${signed(short_sigma)}.${note}`;
      },
    },
    bound: {
      numbers: bound,
      draw: { plane: drawLoop, codes: drawPosterior },
      find: ({ point }) => bestNormal(point),
      say: (_, { reconstruction, price, elbo, gap }) => `Reconstruction ${signed(reconstruction)}, less the price `
        + `${signed(price)}, is the bound, ${signed(elbo)} nats. It lies ${signed(gap)} nats below log p(x).`,
    },
    reversal: {
      numbers: reversal,
      draw: { plane: drawClouds, losses: drawLosses },
      say: ({ step }, { loss, gap }) => `After ${step} steps the guesser's loss is ${signed(loss)} nats (a coin's is `
        + `${signed(COIN)}), and the means of the clouds are ${signed(gap)} apart.`,
    },
  };

  function drawCodes(svg, values, { mean, sigma, short_mean, short_sigma }) {
    const codes = between(-1.5, 4.5, 600);
    const drawn = codes.map((z) => [z, density(z, values.shape, values, 0.02)]);
    const bell = (center, spread) => codes.map((z) => [z, normal(z, center, Math.max(spread, 0.02))]);
    const highest = Math.max(...drawn.map(([, height]) => height));
    const top = 1.15 * Math.max(highest, Math.min(2 * highest, normal(0, 0, Math.max(short_sigma, 0.02))));
    const on = sheet(svg, {
      x: [-1.5, 4.5], y: [0, top], xTicks: [-1, 0, 1, 2, 3, 4], yTicks: [0], xName: "code", yName: "density",
      says: `Density of the code, around ${signed(mean)}; normal densities with the exact moments, around ${signed(mean)}, `
        + `and with the short ones, around ${signed(short_mean)}.`,
    });
    on.area(drawn, "live-mixed");
    on.line(bell(mean, sigma), "live-text");
    on.line(bell(short_mean, short_sigma), "live-target live-dashed");
    on.name("code", "live-mixed", "live-area");
    on.name("Eqs. 3, 4", "live-text");
    on.name("Eqs. 5, 6", "live-target live-dashed");
  }

  function drawLoop(svg, { mean, std, point }) {
    const on = sheet(svg, {
      x: [-1.7, 2.4], y: [-2.2, 2.2], xTicks: [-1, 0, 1, 2], yTicks: [-2, -1, 0, 1, 2], xName: "x₁", yName: "x₂",
      says: `The loop that the decoder draws, with the observation ${point}, and thick the part of it that codes within two `
        + `deviations of the mean are sent to.`,
    });
    on.line(between(-2, 2, 200).map(loop), "live-text live-thin");
    on.line(between(mean - 2 * std, mean + 2 * std, 200).map(loop), "live-source live-thick");
    on.dots([POINTS[point]], "live-target", 5);
    on.mark(POINTS[point], point);
    on.name("drawn from q", "live-source live-thick");
    on.name("x", "live-target", "live-dot");
  }

  function drawPosterior(svg, { mean, std, point }) {
    const codes = between(-2.5, 2.5, 500);
    const behind = codes.map((z) => [z, posterior(z, point)]);
    const top = 1.1 * Math.max(...behind.map(([, height]) => height), normal(0, 0, std));
    const on = sheet(svg, {
      x: [-2.5, 2.5], y: [0, top], xTicks: [-2, -1, 0, 1, 2], yTicks: [0], xName: "code z", yName: "density",
      says: `The posterior of the codes behind ${point}, with ${point === "A" ? "one peak at 0.4" : "two peaks at −1 and 1"}, `
        + `and q, around ${signed(mean)} with deviation ${signed(std)}.`,
    });
    on.area(behind, "live-muted");
    on.line(codes.map((z) => [z, normal(z, mean, std)]), "live-source");
    on.name("posterior", "live-muted", "live-area");
    on.name("q", "live-source");
  }

  function drawClouds(svg, { strength, step }, { gap }) {
    const told = game(strength, step);
    const { phi, w, b } = told[step];
    const on = sheet(svg, {
      x: [-4, 6], y: [-3, 4.2], xTicks: [-4, -2, 0, 2, 4, 6], yTicks: [-2, 0, 2, 4], xName: "h₁", yName: "h₂",
      says: `The source cloud around the origin, and the target cloud, whose mean is ${signed(gap)} away, with the way of its `
        + `center and the line on which the guesser is undecided.`,
    });
    on.dots(SOURCE, "live-source");
    on.dots(TARGET.map(([x, y]) => [x + phi[0], y + phi[1]]), "live-target");
    on.line(told.map((one) => [2 + one.phi[0], 1.5 + one.phi[1]]), "live-text");
    const length = Math.hypot(...w);
    if (length > 0.02) { // a guesser with no opinion has no line
      const [x, y] = [(-b * w[0]) / length ** 2, (-b * w[1]) / length ** 2];
      on.line([-20, 20].map((far) => [x - (far * w[1]) / length, y + (far * w[0]) / length]), "live-mixed live-dashed");
    }
    on.name("source", "live-source", "live-dot");
    on.name("target", "live-target", "live-dot");
    on.name("guess: even", "live-mixed live-dashed");
  }

  function drawLosses(svg, { strength, step }, { loss }) {
    const told = game(strength, 200);
    const on = sheet(svg, {
      x: [0, 200], y: [0, 3], xTicks: [0, 50, 100, 150, 200], yTicks: [0, 1, 2, 3], xName: "step", yName: "loss (nats)",
      says: `The guesser's loss over 200 steps, with a mark at step ${step}, where it is ${signed(loss)} nats, and a line at a `
        + `coin's loss.`,
    });
    on.line([[0, COIN], [200, COIN]], "live-text live-dashed");
    on.line(told.map((one, at) => [at, one.loss]), "live-mixed");
    on.dots([[step, told[step].loss]], "live-target", 5);
    on.name("loss", "live-mixed");
    on.name("a coin's", "live-text live-dashed");
    on.name("now", "live-target", "live-dot");
  }

  function begin(board) {
    const { numbers, draw, say, find } = BOARDS[board.dataset.live];
    const sliders = [...board.querySelectorAll("input[type=range]")];
    const said = board.querySelector(".live-said");
    let waiting;

    function read() {
      const values = Object.fromEntries(sliders.map((slider) => [slider.name, Number(slider.value)]));
      for (const chosen of board.querySelectorAll("input[type=radio]:checked")) values[chosen.dataset.name] = chosen.value;
      return values;
    }

    function show() {
      const values = read();
      const found = numbers(values);
      for (const slider of sliders) {
        const digits = Number(slider.step) < 1 ? 2 : 0;
        slider.nextElementSibling.textContent = signed(Number(slider.value), digits);
      }
      for (const cell of board.querySelectorAll("[data-number]")) cell.textContent = signed(found[cell.dataset.number]);
      for (const svg of board.querySelectorAll("[data-picture]")) draw[svg.dataset.picture](svg, values, found);
      clearTimeout(waiting);
      waiting = setTimeout(() => { said.textContent = say(values, found); }, PAUSE);
    }

    board.addEventListener("input", show);
    board.addEventListener("click", ({ target }) => {
      if (target.dataset.do === "reset") {
        for (const slider of sliders) slider.value = slider.defaultValue;
        for (const one of board.querySelectorAll("input[type=radio]")) one.checked = one.defaultChecked;
        show();
      }
      if (target.dataset.do === "find") {
        const found = find(read());
        for (const slider of sliders) if (slider.name in found) slider.value = found[slider.name];
        show();
      }
    });
    board.hidden = false;
    board.nextElementSibling.classList.add("live-replaced");
    show();
  }

  for (const board of document.querySelectorAll(".live-board")) begin(board);
})();
