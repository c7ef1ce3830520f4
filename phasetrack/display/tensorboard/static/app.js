// The page: a list of runs, controls, the figure, and the neurons below it.
import { button, debounced, eager, fileName, h, shortened } from "./dom.js";
import { figureOf } from "./figure.js";
import { keysDialog } from "./keys.js";
import { Loader } from "./loader.js";
import { NeuronPanel } from "./neurons.js";
import { RunList, canBeShown } from "./runs.js";
import { AXES, clamped, placeOf, scaleOf } from "./scales.js";
import { Unreachable } from "./sources.js";
import { boundaryTable } from "./table.js";
import { ThresholdPanel } from "./thresholds.js";

const POLL_MS = 2000; // between two requests for new runs and records
const SETTLE_MS = 120; // from the last move of a slider or the mouse to the request
const PATIENCE_MS = 400; // before a message says that the page is loading
const COLUMN = 3; // screen pixels per pixel column of a curve
const LEAST_HEIGHT = 1000; // of the figure, in pixels
const NO_RUNS = "No runs yet. `phasetrack run xor` or attach(logdir=…) makes one; this page will show it by itself.";

// Fills an element with the page. source: ServerSource or EmbeddedSource; options: {address, dark,
// ready}, with `ready` a promise of Plotly.
export function start(root, source, options) {
  return new App(root, source, options).begin();
}

class App {
  constructor(root, source, { address, dark, ready = Promise.resolve() }) {
    this.root = root;
    this.source = source;
    this.address = address;
    this.systemDark = dark;
    this.ready = ready;
    this.entries = [];
    this.loader = new Loader(source);
    this.palette = []; // colours of runs, from the server; as many runs are drawn at most
    this.colours = new Map(); // of the chosen runs, by id
    this.state = {
      runs: null, axis: "step", range: null, thresholds: {}, theme: "auto", filter: "", step: null,
      ...address.read(),
    };
    this.whole = [0, 1]; // the range that shows all steps
    this.turn = 0;
    this.busy = false;
    this.stale = false; // whether something changed since the last refresh began
    this.lost = true; // whether the page is out of date because the server did not answer
  }

  async begin() {
    this.build();
    this.applyTheme();
    this.say("loading the runs …");
    await this.poll();
    window.focus(); // so that this frame receives keys from the start
    if (this.source.live) {
      setInterval(() => { if (!document.hidden) this.poll(); }, POLL_MS);
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
    this.list = new RunList({ toggle: (id, on) => this.toggle(id, on), only: (id) => this.only(id) });
    this.panel = new ThresholdPanel({
      change: (values) => this.changeThresholds(values),
      reset: () => { this.state.thresholds = {}; this.refresh(); },
    });
    this.neurons = new NeuronPanel(this.source, (step) => this.goToStep(step));
    this.message = h("div", { id: "message", role: "status", "aria-live": "polite" });
    this.figure = h("div", {
      id: "figure", tabIndex: 0, role: "img",
      "aria-label": "charts over the steps; the table below lists the boundaries; press ? for the keys",
    });
    this.table = h("div", { id: "boundaries" });
    this.help = keysDialog();
    this.main = h("main", {}, this.toolbar(), this.message, this.figure, this.table, this.neurons.element);
    this.root.replaceChildren(
      h("aside", {}, h("h1", {}, "Runs"), this.filter, this.list.element,
        this.source.live ? this.panel.element : null),
      this.main,
      this.help,
    );
    document.addEventListener("keydown", (event) => this.onKey(event));
    const soon = eager(() => this.refresh(), SETTLE_MS);
    this.refetch = () => { this.setBusy(true); soon(); };
    new ResizeObserver(debounced(() => this.draw(), SETTLE_MS)).observe(this.figure);
  }

  toolbar() {
    this.axisChoice = h("select", {
      id: "axis", "aria-label": "axis", onchange: () => this.changeAxis(this.axisChoice.value),
    }, ...Object.entries(AXES).map(([value, label]) => h("option", { value }, label)));
    this.axisChoice.value = this.state.axis;
    return h("div", { id: "toolbar", role: "toolbar", "aria-label": "view" },
      h("label", {}, "axis ", this.axisChoice),
      button("reset", "show all steps", () => this.setRange(null)),
      button("link", "copy link", () => this.copyLink()),
      button("svg", "SVG", () => this.exportFigure("svg")),
      button("png", "PNG", () => this.exportFigure("png")),
      button("csv", "CSV", () => this.exportData()),
      button("theme", "theme", () => this.nextTheme()),
      button("help", "keys", () => this.help.showModal()));
  }

  // Marks the page as waiting for the data of the current view.
  setBusy(busy) {
    this.busy = busy;
    this.main.setAttribute("aria-busy", String(busy));
  }

  say(text, kind = "note") {
    this.message.textContent = text;
    this.message.className = text ? kind : "";
  }

  // --- data -----------------------------------------------------------------------------------

  // Asks for new runs and new records.
  async poll() {
    if (this.polling) return;
    this.polling = true;
    try {
      this.take(await this.source.runs());
    } catch (error) {
      this.say(error.message, "error");
      this.lost = true;
    } finally {
      this.polling = false;
    }
  }

  take({ runs, problem, colours }) {
    const revisions = new Map(this.entries.map((entry) => [entry.id, entry.revision]));
    const chosen = JSON.stringify(this.chosen().map((entry) => entry.id));
    this.entries = runs;
    this.problem = problem;
    this.palette = colours;
    if (this.state.runs === null) this.chooseFirst();
    this.drawRuns();
    if (!runs.length) this.say(problem || NO_RUNS);
    const changed = JSON.stringify(this.chosen().map((entry) => entry.id)) !== chosen
      || this.chosen().some((entry) => entry.revision !== revisions.get(entry.id));
    if (!changed && !this.lost) return;
    this.lost = false;
    if (this.busy) this.stale = true; else this.refresh();
  }

  // Chooses the first runs to show: the newest one, or all runs of a report.
  chooseFirst() {
    const showable = this.entries.filter(canBeShown).map((entry) => entry.id);
    if (showable.length) this.state.runs = this.source.live ? showable.slice(0, 1) : showable;
  }

  entry(id) {
    return this.entries.find((entry) => entry.id === id);
  }

  // Entries of the chosen runs that are drawn, the latest choice first.
  chosen() {
    return (this.state.runs || []).map((id) => this.entry(id)).filter(Boolean).slice(0, this.palette.length);
  }

  // The chosen runs that were read, each with a colour that it keeps while it is chosen.
  loaded() {
    return this.chosen()
      .map((entry) => ({ ...this.loader.get(entry.id), colour: this.colours.get(entry.id) }))
      .filter((run) => run.about);
  }

  shown() {
    return this.loaded().filter((run) => run.series.count);
  }

  assignColours() {
    const ids = this.chosen().map((entry) => entry.id);
    for (const id of this.colours.keys()) if (!ids.includes(id)) this.colours.delete(id);
    for (const id of ids.reverse()) {
      const taken = new Set(this.colours.values());
      if (!this.colours.has(id)) this.colours.set(id, this.palette.find((colour) => !taken.has(colour)));
    }
  }

  view() {
    const columns = Math.max(100, Math.round((this.figure.clientWidth - 250) / COLUMN));
    return { axis: this.state.axis, range: this.state.range, columns };
  }

  // Reads the data of the current view and shows it; a later call replaces an earlier one.
  async refresh() {
    const turn = ++this.turn;
    const mine = () => turn === this.turn;
    this.stale = false;
    this.setBusy(true);
    const patience = setTimeout(() => { if (mine()) this.say("loading …"); }, PATIENCE_MS);
    try {
      const failures = await this.loader.load(this.chosen(), this.view(), this.state.thresholds);
      await this.scripts();
      if (mine()) this.show(failures);
    } catch (error) {
      if (mine()) this.say(error.message, "error");
    } finally {
      clearTimeout(patience);
    }
    if (!mine()) return;
    this.setBusy(false);
    if (this.stale) this.refresh();
  }

  async scripts() {
    try {
      await this.ready;
    } catch {
      throw new Error("The charts' script could not be loaded; is plotly installed beside phasetrack?");
    }
  }

  show(failures) {
    this.lost = failures.some(({ error }) => error instanceof Unreachable);
    const failed = failures.map(({ id, error }) => `${shortened(id, 60)}: ${error.message}`);
    const partial = this.loaded().flatMap((run) => [
      run.problem, run.series.problem && `${run.series.problem}; the records before it are shown`,
    ].filter(Boolean).map((problem) => `${shortened(run.id, 60)}: ${problem}`));
    const many = (this.state.runs || []).length > this.palette.length
      ? [`only the last ${this.palette.length} of the chosen runs are drawn`] : [];
    const off = this.shown().filter((run) => !scaleOf(this.state.axis, run))
      .map((run) => `cannot be drawn on this axis: ${shortened(run.id, 40)}`);
    const nothing = this.entries.length && !this.chosen().length ? ["Choose a run on the left."] : [];
    if (this.entries.length) {
      const kind = failed.length || partial.length ? "error" : "note";
      this.say([...failed, ...partial, ...many, ...off, ...nothing].join(" · "), kind);
    }
    this.draw();
    this.drawNeurons();
    const [front] = this.shown();
    if (front) this.panel.show(front.about.threshold_names, this.thresholds(front), front.about.threshold_words);
    this.remember();
  }

  thresholds(run) {
    return { ...run.about.own, ...this.state.thresholds };
  }

  // Where the charts of a run show its thresholds: the target of its own loss, for example.
  levels(run) {
    const chosen = this.thresholds(run), units = run.about.units;
    return Object.fromEntries(Object.entries(chosen).map(([name, value]) => [name, value * (units[name] ?? 1)]));
  }

  // --- drawing --------------------------------------------------------------------------------

  drawRuns() {
    this.assignColours();
    this.list.draw(this.entries, this.state.filter, this.colours, this.entries.length ? this.problem : "");
  }

  draw() {
    if (!window.Plotly) return; // refresh() waits for it
    const runs = this.shown();
    if (this.source.live) this.table.replaceChildren(...boundaryTable(runs)); // a report has them in its head
    this.figure.classList.toggle("empty", !runs.length);
    if (!runs.length) {
      if (this.figure.data) window.Plotly.purge(this.figure);
      return;
    }
    const { data, layout, whole } = figureOf(runs, {
      axis: this.state.axis, range: this.state.range, theme: this.theme(),
      thresholds: this.levels(runs[0]),
      width: this.figure.clientWidth, height: Math.max(LEAST_HEIGHT, window.innerHeight - 110),
      neuronStep: this.neurons.element.hidden ? null : this.state.step,
    });
    this.whole = whole;
    const config = { displaylogo: false, displayModeBar: false, responsive: false, doubleClick: false };
    const fresh = !this.figure.data;
    window.Plotly.react(this.figure, data, layout, config);
    if (fresh) this.listen();
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
    this.figure.on("plotly_click", ({ points: [point] }) => {
      const step = this.savedStep(point);
      if (step !== null) this.goToStep(step);
    });
    const follow = eager(() => this.drawNeurons(), SETTLE_MS);
    this.figure.on("plotly_hover", ({ points: [point] }) => {
      const step = this.savedStep(point);
      if (step === null || step === this.state.step) return;
      this.state.step = step;
      follow();
    });
  }

  // The saved step of the neurons that is nearest to a point of the charts, or null.
  savedStep(point) {
    const scale = point && this.neurons.run && scaleOf(this.state.axis, this.neurons.run);
    return scale ? this.neurons.near(scale.from(Number(point.x))) : null;
  }

  drawNeurons() {
    const front = this.shown().find((run) => run.about.neurons.length) || null;
    return this.neurons.show(front, this.state.step, this.theme(), front && this.thresholds(front).zeta_enter);
  }

  // --- actions of people ----------------------------------------------------------------------

  toggle(id, on) {
    const others = (this.state.runs || []).filter((other) => other !== id);
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

  changeThresholds(values) {
    this.state.thresholds = { ...this.state.thresholds, ...values };
    this.refetch();
  }

  goToStep(step) {
    this.state.step = step;
    this.draw();
    this.remember();
    return this.drawNeurons();
  }

  changeAxis(axis) {
    this.state.axis = axis;
    this.state.range = null;
    this.axisChoice.value = axis;
    this.say("");
    this.refresh();
  }

  setRange(range) {
    this.state.range = clamped(range, this.whole);
    if (this.state.range === null) this.draw();
    this.refetch();
  }

  // The current range.
  range() {
    return this.state.range || this.whole;
  }

  moveTo(middle, half) {
    if (!this.figure.data) return;
    this.state.range = clamped([middle - half, middle + half], this.whole);
    this.draw();
    this.refetch();
  }

  zoom(factor, shift = 0) {
    const [low, high] = this.range();
    this.moveTo((low + high) / 2 + shift * (high - low), ((high - low) / 2) * factor);
  }

  toBoundary(direction) {
    const [front] = this.shown();
    const scale = front && scaleOf(this.state.axis, front);
    if (!scale) return;
    const [low, high] = this.range();
    const [middle, slack] = [(low + high) / 2, (high - low) * 1e-6];
    const places = front.labels.boundaries
      .map((b) => placeOf(this.state.axis, scale.to(b.onset === null ? b.detected : b.onset)))
      .filter((place) => direction * (place - middle) > slack)
      .sort((a, b) => direction * (a - b));
    if (places.length) this.moveTo(places[0], (high - low) / 2);
  }

  onKey(event) {
    const writing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox";
    if (event.ctrlKey || event.metaKey || event.altKey || this.help.open) return;
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

  async exportFigure(format) {
    if (!this.figure.data) { this.say("There is no figure to export: choose a run."); return; }
    await window.Plotly.downloadImage(this.figure, {
      format, filename: `phases-${fileName(this.shown()[0].id, 60)}`, width: this.figure.clientWidth,
      height: this.figure.layout.height, scale: format === "png" ? 2 : 1,
    });
  }

  exportData() {
    const runs = this.shown();
    if (!runs.length) { this.say("There is no data to export: choose a run."); return; }
    for (const run of runs) {
      h("a", { href: this.source.csvLink(run.id), download: `${fileName(run.id)}.csv` }).click();
    }
  }
}
