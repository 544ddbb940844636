/* What happens on the page "Draw": from the hand to strokes, from strokes to the networks, from these to pictures and words.

   `cdlmDraw.seen` holds what was computed last, and from what; the tests compare it with PyTorch. */
"use strict";

const cdlmDraw = (() => {
  const root = document.getElementById("draw"), at = (name) => document.getElementById(`draw-${name}`);
  const model = window.cdlmModel, nets = cdlmNet.networks(model), latent = model.latent, CLASSES = 10;
  const features = cdlmNet.halves(model.features), counters = cdlmNet.bytes(model.counters);
  const READ = ["x_tilde_t", "x_t", "x_hat_ts"];
  const NAMES = { x_t: "Your image x t", x_tilde_t: "Translation x tilde t", x_hat_ts: "Translation x hat t s", x_tilde_s: "Source features drawn, x tilde s" };
  const COLORS = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#a8a814", "#17becf"];
  const state = { strokes: [], sample: null, invert: false, look: "mnist", gamma1: model.gamma1, gamma2: model.gamma2, seed: 1, partner: 0, set: 0 };
  const pen = { x: 0.5, y: 0.5, down: false, shown: false };
  const past = [];
  let asked = false, saying = 0, seen = null;

  // The features of embedded digit number i: the source's first, then the target's, each class by class.
  const featuresOf = (i) => features.subarray(i * latent, (i + 1) * latent);
  const count = features.length / latent, classOf = (i) => Math.floor((i % (count / 2)) / model.embedded);
  const projected = (h) => model.axes.map((axis) => axis.reduce((sum, a, i) => sum + a * (h[i] - model.mean[i]), 0));
  const places = Array.from({ length: count }, (_, i) => projected(featuresOf(i)));
  const sampleImage = (number) => cdlmInk.fromCounters(counters.subarray(64 * number, 64 * (number + 1)));

  // From what the reader did to an image, and on to all that is shown.

  /** The image in bytes, or null for an empty sheet. */
  function image() {
    if (state.sample === null && !state.strokes.length) return null;
    const drawn = state.sample !== null ? sampleImage(state.sample)
      : state.look === "mnist" ? cdlmInk.asMnist(state.strokes) : cdlmInk.asOptical(state.strokes);
    return state.invert ? cdlmInk.inverted(drawn) : drawn;
  }

  /** The ten embedded digits whose features are nearest, by Euclidean distance in all dimensions. */
  function nearest(h) {
    const far = (i) => featuresOf(i).reduce((sum, value, j) => sum + (value - h[j]) ** 2, 0);
    return Array.from({ length: count }, (_, i) => [far(i), i]).sort((a, b) => a[0] - b[0]).slice(0, 10).map((pair) => pair[1]);
  }

  function compute() {
    const bytes = image(), eps = cdlmNet.noise(state.seed, 3 * latent), partner = featuresOf(state.partner * model.embedded);
    const code = partner.map((h, i) => state.gamma1 * h + state.gamma2 * eps[2 * latent + i]);
    const shared = { eps, partner, gamma1: state.gamma1, gamma2: state.gamma2, x_tilde_s: nets.decode(code) };
    if (!bytes) return shared;
    const found = cdlmNet.look(nets, cdlmInk.scaled(bytes), partner, eps.subarray(0, 2 * latent), state.gamma1, state.gamma2);
    return { ...shared, ...found, bytes, place: projected(found.h), near: nearest(found.h) };
  }

  const likeliest = (p) => p.indexOf(Math.max(...p));
  const percent = (share) => `${(100 * share).toFixed(share > 0.9995 || share < 0.0005 ? 0 : 1)}%`;
  const readAs = (p) => `${likeliest(p)}, ${percent(Math.max(...p))}`;

  // Pictures

  function paint(canvas, x) {
    const context = canvas.getContext("2d"), data = context.createImageData(28, 28);
    for (let i = 0; i < 784; i++) data.data.set([0, 0, 0, 255].map((c, j) => (j < 3 ? Math.round(127.5 * (x[i] + 1)) : c)), 4 * i);
    context.putImageData(data, 0, 0);
  }

  function paintPictures() {
    for (const name of Object.keys(NAMES)) {
      const canvas = at(name), x = name === "x_tilde_s" ? seen.x_tilde_s : seen.images && seen.images[name];
      const p = seen.probabilities && seen.probabilities[name];
      canvas.getContext("2d").clearRect(0, 0, 28, 28);
      if (x) paint(canvas, x);
      canvas.parentElement.querySelector("output").textContent = p ? readAs(p) : "";
      canvas.setAttribute("aria-label", NAMES[name] + (p ? `, read as ${readAs(p)}` : x ? ` of a ${state.partner}` : ", empty"));
    }
  }

  function paintBoard() {
    const canvas = at("canvas"), context = canvas.getContext("2d"), side = canvas.width;
    const [paper, ink] = state.invert ? ["#fff", "#000"] : ["#000", "#fff"];
    context.fillStyle = paper;
    context.fillRect(0, 0, side, side);
    context.strokeStyle = ink;
    context.fillStyle = ink;
    context.lineWidth = 0.075 * side;
    context.lineCap = context.lineJoin = "round";
    if (state.sample !== null) {
      const small = document.createElement("canvas");
      small.width = small.height = 28;
      paint(small, cdlmInk.scaled(image()));
      context.imageSmoothingEnabled = false;
      context.drawImage(small, 0, 0, side, side);
    }
    for (const stroke of state.strokes) {
      context.beginPath();
      context.moveTo(stroke[0][0] * side, stroke[0][1] * side);
      for (const [x, y] of stroke.length > 1 ? stroke.slice(1) : stroke) context.lineTo(x * side, y * side);
      context.stroke();
    }
    if (pen.shown) {
      context.strokeStyle = "#e69f00";
      context.lineWidth = 4;
      context.beginPath();
      context.arc(pen.x * side, pen.y * side, pen.down ? 12 : 22, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  function paintMap() {
    const canvas = at("map"), ratio = window.devicePixelRatio || 1, wide = canvas.clientWidth, high = canvas.clientHeight;
    canvas.width = wide * ratio;
    canvas.height = high * ratio;
    const context = canvas.getContext("2d"), all = seen.place ? [...places, seen.place] : places;
    context.scale(ratio, ratio);
    const span = [0, 1].map((axis) => [Math.min(...all.map((p) => p[axis])), Math.max(...all.map((p) => p[axis]))]);
    const to = (p) => [wide, high].map((size, axis) => {
      const share = (p[axis] - span[axis][0]) / (span[axis][1] - span[axis][0]);
      return 16 + (axis ? 1 - share : share) * (size - 32);
    });
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.font = "600 12px sans-serif";
    places.forEach((place, i) => {
      const [x, y] = to(place);
      context.fillStyle = COLORS[classOf(i)];
      if (i < count / 2) {
        context.globalAlpha = 0.55;
        context.beginPath();
        context.arc(x, y, 3, 0, 2 * Math.PI);
        context.fill();
        context.globalAlpha = 1;
      } else context.fillText(classOf(i), x, y);
    });
    if (seen.place) {
      const [x, y] = to(seen.place);
      for (const [radius, width, color] of [[13, 7, "--pst-color-background"], [13, 3, "--pst-color-text-base"]]) {
        context.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue(color);
        context.lineWidth = width;
        context.beginPath();
        context.arc(x, y, radius, 0, 2 * Math.PI);
        context.stroke();
      }
    }
  }

  // Words

  function nearby() {
    const tally = new Array(CLASSES).fill(0);
    for (const i of seen.near) tally[classOf(i)] += 1;
    const most = tally.map((n, label) => [n, label]).filter(([n]) => n).sort((a, b) => b[0] - a[0]);
    return `Of the ten embedded digits nearest to yours, ${most.map(([n, label]) => `${n} show${n === 1 ? "s" : ""} a ${label}`).join(", ")}.`;
  }

  function write() {
    const rows = at("probabilities").rows;
    for (let label = 0; label < CLASSES; label++) {
      READ.forEach((name, i) => {
        const cell = rows[label].cells[i + 1], p = seen.probabilities && seen.probabilities[name];
        cell.textContent = p ? percent(p[label]) : "–";
        cell.style.setProperty("--share", p ? `${100 * p[label]}%` : "0%");
        cell.classList.toggle("draw-most", Boolean(p) && likeliest(p) === label);
      });
    }
    for (const name of ["gamma1", "gamma2"]) {
      at(name).value = state[name];
      document.querySelector(`output[for=draw-${name}]`).textContent = state[name].toFixed(2);
    }
    at("near").textContent = seen.near ? nearby() : "";
    at("map").setAttribute("aria-label", `Map of the features of ${count} test digits` + (seen.near ? `. ${nearby()}` : ""));
    at("undo").disabled = !past.length;
    for (const button of at("samples").children) button.setAttribute("aria-pressed", String(state.sample === Number(button.dataset.number)));
    const p = seen.probabilities;
    say(p ? `The translation x̃_t is read as ${readAs(p.x_tilde_t)}; the image itself, x_t, as ${readAs(p.x_t)}; x̂_ts as ${readAs(p.x_hat_ts)}. ${nearby()}`
      : "The sheet is empty: draw a digit, or take one.");
  }

  /** Tell it to those who do not see it, once the hand rests. */
  function say(text) {
    clearTimeout(saying);
    saying = setTimeout(() => { at("status").textContent = text; }, 300);
  }

  function show() {
    asked = false;
    seen = compute();
    paintBoard();
    paintPictures();
    paintMap();
    write();
  }

  /** Compute and show, once before the next picture of the screen. */
  function changed() {
    if (!asked) requestAnimationFrame(show);
    asked = true;
  }

  // What a reader can do

  /** Note what is on the sheet, for undo. */
  function keep() {
    past.push({ strokes: state.strokes.map((stroke) => stroke.slice()), sample: state.sample });
  }

  function begin(x, y) {
    keep();
    state.sample = null;
    state.strokes.push([[x, y]]);
    changed();
  }

  function extend(x, y) {
    const stroke = state.strokes[state.strokes.length - 1], last = stroke[stroke.length - 1];
    if (Math.hypot(x - last[0], y - last[1]) > 0.005) stroke.push([x, y]);
    changed();
  }

  function undo() {
    if (past.length) Object.assign(state, past.pop());
    pen.down = false;
    changed();
  }

  function clear() {
    if (state.strokes.length || state.sample !== null) keep();
    Object.assign(state, { strokes: [], sample: null });
    pen.down = false;
    changed();
  }

  function take(number) {
    keep();
    Object.assign(state, { strokes: [], sample: number });
    changed();
  }

  const inside = (v) => Math.min(1, Math.max(0, v));

  function listenToTheHand(canvas) {
    let drawing = null;
    const where = (event) => {
      const box = canvas.getBoundingClientRect();
      return [inside((event.clientX - box.left) / box.width), inside((event.clientY - box.top) / box.height)];
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button || drawing !== null) return;
      drawing = event.pointerId;
      canvas.setPointerCapture(drawing);
      pen.shown = pen.down = false;
      begin(...where(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.pointerId !== drawing) return;
      const events = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
      for (const one of events.length ? events : [event]) extend(...where(one));
    });
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, (event) => { if (event.pointerId === drawing) drawing = null; });
    }
  }

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  function listenToKeys(canvas) {
    canvas.addEventListener("keydown", (event) => {
      const plain = !event.ctrlKey && !event.metaKey && !event.altKey, step = event.shiftKey ? 0.1 : 0.025;
      if (plain && event.key in ARROWS) {
        const [dx, dy] = ARROWS[event.key];
        Object.assign(pen, { x: inside(pen.x + dx * step), y: inside(pen.y + dy * step), shown: true });
        if (pen.down) extend(pen.x, pen.y);
      } else if (plain && event.key === " ") {
        Object.assign(pen, { down: !pen.down, shown: true });
        if (pen.down) begin(pen.x, pen.y);
      } else if ((plain && event.key === "Backspace") || (event.key === "z" && (event.ctrlKey || event.metaKey))) undo();
      else if (plain && event.key === "Delete") clear();
      else return;
      event.preventDefault();
      event.stopPropagation();
      changed();
    });
    canvas.addEventListener("blur", () => { pen.shown = pen.down = false; changed(); });
  }

  function offerSamples() {
    at("samples").replaceChildren(...Array.from({ length: CLASSES }, (_, label) => {
      const button = document.createElement("button"), canvas = document.createElement("canvas");
      const number = label * model.samples + state.set;
      button.type = "button";
      button.dataset.number = number;
      button.setAttribute("aria-label", `Take optical digit ${label}`);
      canvas.width = canvas.height = 28;
      paint(canvas, cdlmInk.scaled(sampleImage(number)));
      button.append(canvas);
      button.addEventListener("click", () => take(number));
      return button;
    }));
  }

  function begun() {
    for (let label = 0; label < CLASSES; label++) {
      const row = at("probabilities").insertRow(), head = document.createElement("th");
      head.scope = "row";
      head.textContent = label;
      row.append(head, ...READ.map(() => document.createElement("td")));
      at("partner").add(new Option(label, label));
    }
    offerSamples();
    listenToTheHand(at("canvas"));
    listenToKeys(at("canvas"));
    at("undo").addEventListener("click", undo);
    at("clear").addEventListener("click", clear);
    at("others").addEventListener("click", () => { state.set = (state.set + 1) % model.samples; offerSamples(); changed(); });
    at("noise").addEventListener("click", () => { state.seed += 1; changed(); });
    at("invert").addEventListener("change", (event) => { state.invert = event.target.checked; changed(); });
    at("partner").addEventListener("change", (event) => { state.partner = Number(event.target.value); changed(); });
    for (const name of ["gamma1", "gamma2"]) at(name).addEventListener("input", (event) => { state[name] = Number(event.target.value); changed(); });
    for (const choice of document.getElementsByName("draw-look")) choice.addEventListener("change", () => { state.look = choice.value; changed(); });
    new MutationObserver(changed).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    window.addEventListener("resize", changed);
    root.hidden = false;
    at("fallback").hidden = true;
    changed();
  }

  begun();
  return { state, get seen() { return seen; } };
})();
