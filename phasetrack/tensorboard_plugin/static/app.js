// The page: a list of runs, controls, the figure, and the neurons below it.
import { AXES, colourOf, figureOf, plain, scaleOf, shortened } from "./figure.js";
import { neuronFigure, rangesOf } from "./neurons.js";
import { merged } from "./sources.js";

const POLL_MS = 2000; // how often a run in progress is looked at
const SETTLE_MS = 120; // after the last move of a slider or the mouse
const COLUMN = 3; // pixels that share an extreme of each side: every point of a line is seen, and no more
const MOST_SHOWN = 12;
const LOGARITHMIC = new Set(["loss_target"]);
const SLIDERS = {
  zeta_enter: [0.05, 2], zeta_exit: [0.1, 4], linear_exit: [0.02, 1], finding_drift: [0.02, 1],
  loss_target: [1e-4, 1.4],
};
const HELP = [
  ["/", "filter the runs"], ["+ −", "zoom in and out"], ["← →", "move along the steps"],
  ["0", "show all steps"], ["n p", "next and previous boundary"], ["a", "next axis"],
  ["t", "theme"], ["?", "this list"],
];

// root: element to fill; source: ServerSource or EmbeddedSource; options: {address, dark, ready}, ready
// being a promise of Plotly
export function start(root, source, options) {
  return new App(root, source, options).begin();
}

// An element with properties and children; text is only ever set as text.
function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && name !== "list" && name !== "form") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

// Acts at the last of several calls.
function debounced(action, wait) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(action, wait);
  };
}

// Acts at the first of several calls, and at the last.
function eager(action, wait) {
  let last = -Infinity;
  const later = debounced(action, wait);
  return () => {
    const now = performance.now();
    if (now - last > wait) action(); else later();
    last = now;
  };
}

class App {
  constructor(root, source, { address, dark, ready = Promise.resolve() }) {
    this.root = root;
    this.source = source;
    this.address = address;
    this.systemDark = dark;
    this.ready = ready;
    this.entries = [];
    this.loaded = new Map(); // id to {entry revision, about, series, labels, viewKey}
    this.state = {
      runs: null, axis: "step", range: null, thresholds: {}, theme: "auto", filter: "", step: null,
      ...address.read(),
    };
    this.playing = 0;
    this.turn = 0;
    this.neuronCache = new Map();
  }

  async begin() {
    this.build();
    this.applyTheme();
    await this.poll(true);
    window.focus(); // so that keys reach this frame from the start
    if (this.source.live) {
      setInterval(() => { if (!document.hidden) this.poll(false); }, POLL_MS);
    }
    return this;
  }

  // --- the page -------------------------------------------------------------------------------

  build() {
    this.filter = h("input", {
      type: "search", id: "filter", placeholder: "filter runs (regular expression)",
      value: this.state.filter, "aria-label": "filter runs",
      oninput: () => { this.state.filter = this.filter.value; this.drawRuns(); this.remember(); },
    });
    this.list = h("ul", { id: "runs", "aria-label": "runs" });
    this.message = h("div", { id: "message", role: "status", "aria-live": "polite" });
    this.figure = h("div", {
      id: "figure", tabIndex: 0, role: "img",
      "aria-label": "charts over the steps; the table below says their boundaries; ? for keys",
    });
    this.table = h("div", { id: "boundaries" });
    this.axisChoice = h("select", {
      id: "axis", "aria-label": "axis",
      onchange: () => this.changeAxis(this.axisChoice.value),
    }, ...Object.entries(AXES).map(([value, label]) => h("option", { value }, label)));
    this.axisChoice.value = this.state.axis;
    this.toolbar = h("div", { id: "toolbar", role: "toolbar", "aria-label": "view" },
      h("label", {}, "axis ", this.axisChoice),
      this.button("reset", "show all steps", () => this.setRange(null)),
      this.button("link", "copy link", () => this.copyLink()),
      this.button("svg", "SVG", () => this.exportFigure("svg")),
      this.button("png", "PNG", () => this.exportFigure("png")),
      this.button("csv", "CSV", () => this.exportData()),
      this.button("theme", "theme", () => this.nextTheme()),
      this.button("help", "keys", () => this.help.showModal()),
    );
    this.help = h("dialog", { id: "keys" },
      h("h2", {}, "Keys"),
      h("dl", {}, ...HELP.flatMap(([key, what]) => [h("dt", {}, key), h("dd", {}, what)])),
      h("p", {}, "Drag over the charts to zoom, click twice to show all steps."),
      this.button("close", "close", () => this.help.close()));
    this.sliders = h("fieldset", { id: "thresholds" }, h("legend", {}, "Thresholds"));
    this.neuronBox = this.buildNeurons();
    this.root.replaceChildren(
      h("aside", {}, h("h1", {}, "Runs"), this.filter, this.list, this.sliders),
      this.main = h("main", {}, this.toolbar, this.message, this.figure, this.table, this.neuronBox),
      this.help,
    );
    document.addEventListener("keydown", (event) => this.onKey(event));
    const soon = eager(() => this.refresh(), SETTLE_MS);
    this.refetch = () => { this.setBusy(true); soon(); };
    new ResizeObserver(debounced(() => this.draw(), SETTLE_MS)).observe(this.figure);
  }

  button(id, label, onclick) {
    return h("button", { id: `do-${id}`, type: "button", onclick }, label);
  }

  buildNeurons() {
    this.neuronFigure = h("div", { id: "neuron-figure" });
    this.stepSlider = h("input", {
      type: "range", id: "neuron-step", min: 0, max: 0, step: 1, value: 0,
      "aria-label": "saved step of the neuron view",
      oninput: () => this.chooseNeuronStep(Number(this.stepSlider.value)),
    });
    this.stepName = h("output", { id: "neuron-step-name" });
    this.playButton = this.button("play", "play", () => this.play());
    return h("section", { id: "neurons", hidden: true },
      h("h2", {}, "Neurons"),
      h("p", {}, "Each neuron's length in the signal span, |sig|, against what is left of it, |perp|."),
      h("div", { className: "row" }, this.playButton, this.stepSlider, this.stepName),
      this.neuronFigure);
  }

  // Whether what is shown is not yet what was asked for.
  setBusy(busy) {
    this.main.setAttribute("aria-busy", String(busy));
  }

  say(text, kind = "note") {
    this.message.textContent = text;
    this.message.className = text ? kind : "";
  }

  // --- data -----------------------------------------------------------------------------------

  async poll(first) {
    if (first) this.say("reading the runs …");
    let answer;
    try {
      answer = await this.source.runs();
    } catch (error) {
      this.say(error.message, "error");
      this.offline = true;
      return;
    }
    if (first || this.offline) this.say("");
    this.offline = false;
    const before = JSON.stringify(this.entries);
    this.entries = answer.runs;
    if (this.state.runs === null && this.entries.length) {
      const best = this.entries.find((entry) => ["finished", "running"].includes(entry.state));
      const all = this.entries.map((entry) => entry.id);
      this.state.runs = this.source.live ? all.filter((id) => best && id === best.id) : all;
    }
    if (first || JSON.stringify(this.entries) !== before) {
      this.drawRuns();
      if (!this.entries.length) {
        this.say(answer.problem || "No runs yet: `phasetrack run xor` or attach(logdir=…) makes one; this page looks again by itself.");
        this.draw();
        return;
      }
      await this.refresh();
    }
  }

  view() {
    return { columns: Math.max(100, Math.round((this.figure.clientWidth - 250) / COLUMN)), log: this.state.axis === "log" ? 1 : 0 };
  }

  // What a run must be asked for: the shown steps, and some on either side.
  window(run) {
    if (!this.state.range || !run || !run.about) return {};
    const scale = scaleOf(this.state.axis, run);
    if (!scale) return {};
    const range = this.state.axis === "log" ? this.state.range.map((x) => 10 ** x) : this.state.range;
    return { first: scale.from(range[0]), last: scale.from(range[1]) };
  }

  // Read what the view needs and show it; of several calls the last one counts.
  async refresh() {
    const turn = ++this.turn;
    this.setBusy(true);
    try {
      const wanted = (this.state.runs || []).filter((id) => this.entry(id)).slice(0, MOST_SHOWN);
      const failed = await this.read(wanted, turn);
      if (turn === this.turn) this.show(wanted, failed);
    } catch (error) {
      if (turn === this.turn) this.say(error.message, "error");
    } finally {
      if (turn === this.turn) this.setBusy(false);
    }
  }

  // Messages of the runs that could not be read.
  async read(wanted, turn) {
    const patience = setTimeout(() => this.say("reading …"), 400);
    const results = await Promise.allSettled(wanted.map((id) => this.load(id, turn)));
    try {
      await this.ready;
    } catch {
      throw new Error("The charts' script could not be loaded; is plotly installed beside phasetrack?");
    } finally {
      clearTimeout(patience);
    }
    return results.flatMap((result, i) => (result.status === "rejected"
      ? [`${shortened(wanted[i], 60)}: ${result.reason.message}`] : []));
  }

  show(wanted, failed) {
    const damaged = wanted.flatMap((id) => {
      const run = this.loaded.get(id);
      return run && run.series.problem ? [`${shortened(id, 60)}: ${run.series.problem}; shown up to there`] : [];
    });
    const problems = [...failed, ...damaged];
    if ((this.state.runs || []).length > MOST_SHOWN) problems.push(`only the first ${MOST_SHOWN} of the chosen runs are drawn`);
    this.say(problems.join(" · "), failed.length ? "error" : "note");
    this.draw();
    this.drawNeurons();
    this.drawThresholds();
    this.remember();
  }

  async load(id, turn) {
    const entry = this.entry(id);
    const known = this.loaded.get(id);
    const span = this.window(known);
    const view = { ...this.view(), ...span };
    const key = JSON.stringify(view);
    const labelled = JSON.stringify(this.state.thresholds);
    const fresh = known && known.revision === entry.revision;
    const same = known && known.key === key;
    if (fresh && same && known.labelled === labelled) return;
    const grows = same && !fresh && entry.state === "running" && span.last === undefined
      && known.drawn < 4 * view.columns;
    const [about, series, labels] = await Promise.all([
      fresh ? known.about : this.source.about(id),
      fresh && same ? known.series : grows
        ? this.source.series(id, { ...view, first: known.series.last }).then((s) => merged(known.series, s))
        : this.source.series(id, view),
      fresh && known.labelled === labelled ? known.labels : this.source.labels(id, this.state.thresholds),
    ]);
    if (turn !== this.turn) return; // what was asked for later must not be overwritten
    const drawn = Math.max(0, ...Object.values(series.points).map(([steps]) => steps.length));
    this.loaded.set(id, { id, about, series, labels, key, labelled, drawn, revision: entry.revision });
  }

  entry(id) {
    return this.entries.find((entry) => entry.id === id);
  }

  shown() {
    return (this.state.runs || [])
      .map((id) => ({ ...this.loaded.get(id), colour: colourOf(this.entries.findIndex((e) => e.id === id)) }))
      .filter((run) => run.about && run.series.count && this.entry(run.id))
      .map((run, index) => ({ ...run, index }));
  }

  thresholds() {
    const [front] = this.shown();
    return front ? { ...front.about.own, ...this.state.thresholds } : {};
  }

  // --- drawing --------------------------------------------------------------------------------

  draw() {
    const runs = this.shown();
    if (!window.Plotly) return undefined; // refresh() waits for it
    this.drawTable(runs);
    if (!runs.length) {
      if (this.figure.data) window.Plotly.purge(this.figure);
      this.figure.classList.add("empty");
      if (this.entries.length && !this.message.textContent) this.say("Choose a run on the left.");
      return;
    }
    this.figure.classList.remove("empty");
    const off = runs.filter((run) => !scaleOf(this.state.axis, run)).map((run) => shortened(run.id, 40));
    if (off.length) this.say(`not on this axis: ${off.join(", ")}`, "note");
    const { data, layout } = figureOf(runs, {
      axis: this.state.axis, range: this.state.range, theme: this.theme(),
      thresholds: this.thresholds(),
      width: this.figure.clientWidth, height: Math.max(1000, window.innerHeight - 110),
      neuronStep: this.neuronBox.hidden ? null : this.state.step,
    });
    const config = { displaylogo: false, displayModeBar: false, responsive: false, doubleClick: false };
    const fresh = !this.figure.data;
    const done = window.Plotly.react(this.figure, data, layout, config);
    if (fresh) this.listen();
    return done;
  }

  listen() {
    this.figure.on("plotly_relayout", (change) => {
      if (change["xaxis.range[0]"] !== undefined) {
        this.setRange([Number(change["xaxis.range[0]"]), Number(change["xaxis.range[1]"])]);
      } else if (Array.isArray(change["xaxis.range"])) {
        this.setRange(change["xaxis.range"].map(Number));
      }
    });
    this.figure.on("plotly_doubleclick", () => this.setRange(null));
    this.figure.on("plotly_click", (event) => this.goToStep(event.points[0]));
  }

  drawRuns() {
    let wanted = () => true;
    try {
      const expression = new RegExp(this.state.filter, "i");
      wanted = (name) => expression.test(name);
    } catch { // half-written: taken as it stands
      wanted = (name) => name.includes(this.state.filter);
    }
    const rows = this.entries.map((entry, index) => [entry, index]).filter(([entry]) => wanted(entry.id));
    const chosen = new Set(this.state.runs || []);
    const held = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.run : null;
    this.list.replaceChildren(...rows.map(([entry, index]) => this.runRow(entry, index, chosen.has(entry.id))));
    if (!rows.length) this.list.append(h("li", { className: "nothing" }, this.entries.length ? "no run matches" : "no runs"));
    if (held) [...this.list.querySelectorAll("input")].find((box) => box.dataset.run === held)?.focus();
  }

  runRow(entry, index, checked) {
    const box = h("input", {
      type: "checkbox", checked, disabled: ["unreadable", "empty"].includes(entry.state) && !checked,
      onchange: () => this.toggle(entry.id, box.checked),
    });
    box.dataset.run = entry.id;
    const swatch = h("span", { className: "swatch", style: `background:${colourOf(index)}` });
    const about = entry.problem || (entry.phase ? `${entry.phase}${entry.steps ? `, ${entry.steps} steps` : ""}` : entry.state);
    return h("li", { className: entry.state, title: `${entry.id}\n${about}` },
      h("label", {}, box, swatch, h("span", { className: "name" }, shortened(entry.id, 44))),
      h("span", { className: "about" }, entry.state === "finished" ? entry.phase : entry.state),
      ["unreadable", "empty"].includes(entry.state) ? null
        : h("button", { type: "button", className: "only", title: "show only this run", onclick: () => this.only(entry.id) }, "only"),
      entry.problem ? h("p", { className: "problem" }, entry.problem) : null);
  }

  drawTable(runs) {
    const rows = runs.flatMap((run) => [
      ...run.labels.boundaries.map((b) => [run.id, run.about.boundaries[b.name] || b.name,
        b.onset === null ? "–" : b.onset.toFixed(2), String(b.detected), ""]),
      ...run.labels.alerts.map((a) => [run.id, `▲ ${a.name}`, "–", String(a.step),
        Object.entries(a.evidence).map(([name, value]) => `${name} ${typeof value === "number" ? value.toPrecision(4) : value}`).join(", ")]),
    ]);
    const now = runs.map((run) => h("p", {}, h("b", {}, shortened(run.id, 60)), `  ${run.labels.phase} at step ${run.series.last}${run.labels.reason ? `: ${run.labels.reason}` : ""}`));
    const head = ["run", "boundary or alert", "onset", "detected", "evidence"];
    this.table.replaceChildren(...now, rows.length ? h("table", {},
      h("thead", {}, h("tr", {}, ...head.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, ...rows.map((row) => h("tr", {}, ...row.map((cell, i) => h("td", {}, i ? cell : shortened(cell, 40))))))) : "");
  }

  drawThresholds() {
    const [front] = this.shown();
    if (!front || this.sliders.contains(document.activeElement)) return;
    const values = this.thresholds();
    const rows = front.about.threshold_names.map((name) => this.thresholdRow(name, values[name]));
    const first = rows.filter((row) => row.dataset.slider);
    const rest = rows.filter((row) => !row.dataset.slider);
    const note = this.source.live ? "" : "A report cannot label again: `phasetrack tensorboard` can.";
    this.sliders.disabled = !this.source.live;
    this.sliders.replaceChildren(h("legend", {}, "Thresholds"), ...first,
      h("details", {}, h("summary", {}, "all others"), ...rest),
      this.button("own", "as recorded", () => { this.state.thresholds = {}; document.activeElement.blur(); this.refresh(); }),
      h("p", { className: "note" }, note));
  }

  thresholdRow(name, value) {
    const bounds = SLIDERS[name];
    const log = LOGARITHMIC.has(name);
    const to = log ? Math.log10 : Number;
    const from = log ? (x) => 10 ** x : Number;
    const number = h("input", { type: "number", value: Number(value.toPrecision(6)), step: "any", "aria-label": `${name}, exact` });
    const change = (x) => {
      if (!Number.isFinite(x)) return;
      this.state.thresholds = { ...this.state.thresholds, [name]: x };
      this.refetch();
    };
    number.addEventListener("input", () => { change(number.valueAsNumber); });
    const row = h("label", { className: "threshold" }, h("span", {}, name));
    if (bounds) {
      const slider = h("input", {
        type: "range", id: `threshold-${name}`, min: to(bounds[0]), max: to(bounds[1]),
        step: (to(bounds[1]) - to(bounds[0])) / 200, value: to(value), "aria-label": name,
        oninput: () => { const x = Number(from(slider.valueAsNumber).toPrecision(4)); number.value = x; change(x); },
      });
      row.append(slider);
      row.dataset.slider = "1";
    }
    row.append(number);
    return row;
  }

  // --- neurons --------------------------------------------------------------------------------

  async drawNeurons() {
    const front = this.shown().find((run) => run.about.neurons.length);
    this.neuronBox.hidden = !front;
    if (!front) return;
    const steps = front.about.neurons;
    if (this.neuronRun !== front.id) {
      this.neuronRun = front.id;
      this.neuronCache.clear();
      this.neuronRanges = null;
    }
    this.stepSlider.max = steps.length - 1;
    let place = this.state.step === null ? steps.length - 1 : nearest(steps, this.state.step);
    this.stepSlider.value = place;
    try {
      if (!this.neuronRanges || this.neuronRanges.count !== steps.length) {
        const ends = [...new Set([0, 0.25, 0.5, 0.75, 1].map((s) => steps[Math.round(s * (steps.length - 1))]))];
        const saved = await Promise.all(ends.map((step) => this.neuronsAt(step)));
        this.neuronRanges = { ...rangesOf(saved), count: steps.length };
      }
      const neurons = await this.neuronsAt(steps[place]);
      this.stepName.textContent = `step ${steps[place]}, ${neurons.signal.length} neurons`;
      const { data, layout } = neuronFigure(neurons, this.neuronRanges, this.theme());
      layout.width = Math.min(760, this.neuronFigure.clientWidth || 760);
      layout.height = 520;
      await window.Plotly.react(this.neuronFigure, data, layout, { displaylogo: false, displayModeBar: false });
    } catch (error) {
      this.stepName.textContent = error.message;
    }
  }

  async neuronsAt(step) {
    if (!this.neuronCache.has(step)) {
      this.neuronCache.set(step, await this.source.neurons(this.neuronRun, step));
    }
    return this.neuronCache.get(step);
  }

  async chooseNeuronStep(place) {
    const front = this.shown().find((run) => run.id === this.neuronRun);
    if (!front) return;
    this.state.step = front.about.neurons[place];
    await Promise.all([this.drawNeurons(), this.draw()]);
    this.remember();
  }

  goToStep(point) {
    const front = this.shown().find((run) => run.id === this.neuronRun);
    if (!front || !point) return;
    const step = scaleOf(this.state.axis, front)?.from(Number(point.x));
    if (Number.isFinite(step)) this.chooseNeuronStep(nearest(front.about.neurons, step));
  }

  play() {
    if (this.playing) {
      clearInterval(this.playing);
      this.playing = 0;
    } else {
      let place = Number(this.stepSlider.value) === Number(this.stepSlider.max) ? 0 : Number(this.stepSlider.value);
      this.playing = setInterval(() => {
        if (place > Number(this.stepSlider.max)) { this.play(); return; }
        this.chooseNeuronStep(place);
        place += 1;
      }, 150);
    }
    this.playButton.textContent = this.playing ? "pause" : "play";
  }

  // --- what people do -------------------------------------------------------------------------

  toggle(id, on) {
    const others = this.state.runs.filter((other) => other !== id);
    this.state.runs = on ? [id, ...others] : others;
    this.changed();
  }

  only(id) {
    this.state.runs = [id];
    this.changed();
  }

  changed() {
    this.state.step = null;
    this.drawRuns();
    this.refresh();
  }

  changeAxis(axis) {
    this.state.axis = axis;
    this.state.range = null;
    this.axisChoice.value = axis;
    this.say("");
    this.refresh();
  }

  setRange(range) {
    this.state.range = range;
    if (range === null) this.draw();
    this.refetch();
  }

  // The range that is shown now, in the axis' own units (decades on a logarithmic one).
  range() {
    return this.figure.layout ? this.figure.layout.xaxis.range.map(Number) : [0, 1];
  }

  zoom(factor, shift = 0) {
    const [low, high] = this.range();
    const [middle, half] = [(low + high) / 2 + shift * (high - low), ((high - low) / 2) * factor];
    this.state.range = [middle - half, middle + half];
    this.draw();
    this.refetch();
  }

  toBoundary(direction) {
    const [front] = this.shown();
    const scale = front && scaleOf(this.state.axis, front);
    if (!scale) return;
    const [low, high] = this.range();
    const at = (b) => {
      const x = scale.to(b.onset === null ? b.detected : b.onset);
      return this.state.axis === "log" ? Math.log10(x) : x;
    };
    const middle = (low + high) / 2;
    const places = front.labels.boundaries.map(at).sort((a, b) => a - b);
    const slack = (high - low) * 1e-6;
    const next = direction > 0 ? places.find((x) => x > middle + slack) : places.reverse().find((x) => x < middle - slack);
    if (next === undefined) return;
    this.state.range = [next - (high - low) / 2, next + (high - low) / 2];
    this.draw();
    this.refetch();
  }

  onKey(event) {
    const writing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox";
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (writing) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const actions = {
      "/": () => this.filter.focus(),
      "+": () => this.zoom(0.5), "=": () => this.zoom(0.5), "-": () => this.zoom(2),
      ArrowLeft: () => this.zoom(1, -0.25), ArrowRight: () => this.zoom(1, 0.25),
      0: () => this.setRange(null),
      n: () => this.toBoundary(1), p: () => this.toBoundary(-1),
      a: () => {
        const names = Object.keys(AXES);
        this.changeAxis(names[(names.indexOf(this.state.axis) + 1) % names.length]);
      },
      t: () => this.nextTheme(), "?": () => this.help.showModal(),
    };
    if (actions[event.key]) {
      event.preventDefault();
      actions[event.key]();
    }
  }

  // --- theme, links, exports ------------------------------------------------------------------

  theme() {
    if (this.state.theme !== "auto") return this.state.theme;
    return this.systemDark() ? "dark" : "light";
  }

  applyTheme() {
    document.documentElement.dataset.theme = this.theme();
  }

  nextTheme() {
    this.state.theme = this.theme() === "dark" ? "light" : "dark";
    this.themeChanged();
    this.remember();
  }

  themeChanged() {
    this.applyTheme();
    this.draw();
    this.drawNeurons();
  }

  remember() {
    this.address.write(this.state);
  }

  async copyLink() {
    const link = this.address.link(this.state);
    try {
      await navigator.clipboard.writeText(link);
      this.say("The link to this view is in the clipboard.");
    } catch {
      this.say(link);
    }
  }

  exportName() {
    const [front] = this.shown();
    return `phases-${(front ? front.id : "none").replace(/[^A-Za-z0-9-]+/g, "-").slice(0, 60)}`;
  }

  async exportFigure(format) {
    if (!this.figure.data) { this.say("There is no figure to export: choose a run."); return; }
    await window.Plotly.downloadImage(this.figure, {
      format, filename: this.exportName(), width: this.figure.clientWidth,
      height: this.figure.layout.height, scale: format === "png" ? 2 : 1,
    });
  }

  exportData() {
    const runs = this.shown();
    if (!runs.length) { this.say("There is no data to export: choose a run."); return; }
    for (const run of runs) {
      const name = run.id.replace(/[^A-Za-z0-9-]+/g, "-").slice(0, 80);
      h("a", { href: this.source.csvLink(run.id), download: `${name}.csv` }).click();
    }
  }
}

function nearest(steps, wanted) {
  let best = 0;
  steps.forEach((step, place) => {
    if (Math.abs(step - wanted) < Math.abs(steps[best] - wanted)) best = place;
  });
  return best;
}
