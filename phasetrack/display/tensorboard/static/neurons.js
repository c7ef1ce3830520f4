// The neuron panel: each neuron's length in the signal span against its length outside, at a saved step.
import { button, h, shortened } from "./dom.js";
import { FONT, THEMES, inked } from "./theme.js";

// Neurons that a browser draws without delay; more are thinned out evenly.
const MOST_POINTS = 6000;
const MOST_GROUPS = 12; // clusters with a colour each; of more, neurons have the colour of their sign
const FRAME_MS = 150; // between two steps while playing
const RANGE_SHARES = [0, 0.25, 0.5, 0.75, 1]; // places among the saved steps that set the axes
const CONFIG = { displaylogo: false, displayModeBar: false };

export class NeuronPanel {
  // onStep: called with the step that a person chose here
  constructor(source, onStep) {
    this.source = source;
    this.onStep = onStep;
    this.run = null;
    this.key = ""; // of the run as it was read; when it changes, saved neurons are discarded
    this.saved = new Map(); // step to a promise of its neurons
    this.turn = 0;
    this.playing = 0;
    this.figure = h("div", { id: "neuron-figure" });
    this.slider = h("input", {
      type: "range", id: "neuron-step", min: 0, max: 0, step: 1, value: 0,
      "aria-label": "saved step of the neurons",
      oninput: () => this.choose(Number(this.slider.value)),
    });
    this.name = h("output", { id: "neuron-step-name" });
    this.playButton = button("play", "play", () => (this.playing ? this.pause() : this.play()));
    this.element = h("section", { id: "neurons", hidden: true },
      h("h2", {}, "Neurons"),
      h("p", {}, "Each neuron's length in the signal span, |sig|, against its length outside, |perp|, at a saved "
        + "step: move the mouse over the charts, or the slider. While features are found, neurons rise to the upper left. A neuron serves the cluster to whose margin it adds most."),
      this.caption = h("p", { className: "note" }),
      h("div", { className: "row" }, this.playButton, this.slider, this.name),
      this.figure);
  }

  // Shows a run with saved neurons at its saved step nearest to `step`; without a run the panel is hidden.
  // level: the zeta up to which neurons are drawn larger
  async show(run, step, themeName, level) {
    this.element.hidden = !run;
    const turn = ++this.turn;
    if (!run) {
      this.pause();
      this.run = null;
      return;
    }
    const key = JSON.stringify([run.id, run.series.generation]);
    if (key !== this.key) {
      this.key = key;
      this.saved.clear();
    }
    this.run = run;
    const steps = run.about.neurons;
    const place = step === null ? steps.length - 1 : nearest(steps, step);
    this.slider.max = steps.length - 1;
    this.slider.value = place;
    try {
      const shown = RANGE_SHARES.map((share) => steps[Math.round(share * (steps.length - 1))]);
      const all = await Promise.all([...new Set(shown), steps[place]].map((at) => this.neurons(at)));
      if (turn !== this.turn) return; // a later choice replaces this one
      const neurons = all.at(-1);
      this.name.textContent = `step ${steps[place]}, ${neurons.signal.length} neurons`;
      const { data, layout } = neuronFigure(neurons, rangesOf(all.slice(0, -1)), run.about, themeName, level);
      const above = neurons.signal.filter((signal, i) => neurons.perp[i] <= level * signal).length;
      this.caption.textContent = `Run ${shortened(run.id, 40)}. Dotted: |sig| = |perp|, where a neuron needs ζ = 1. Dashed: `
        + `the detection level ζ = ${Number(level.toPrecision(3))}; the ${above} neurons above it need no more, and are drawn larger.`;
      layout.width = Math.min(760, this.figure.clientWidth || 760);
      layout.height = 520;
      await window.Plotly.react(this.figure, data, layout, CONFIG);
    } catch (error) {
      if (turn === this.turn) this.name.textContent = error.message;
    }
  }

  neurons(step) {
    if (!this.saved.has(step)) {
      const saved = this.saved;
      const asked = this.source.neurons(this.run.id, step);
      asked.catch(() => saved.delete(step)); // so that the next call asks again
      saved.set(step, asked);
    }
    return this.saved.get(step);
  }

  choose(place) {
    if (this.run) this.onStep(this.run.about.neurons[place]);
  }

  // The saved step nearest to `step`, or null.
  near(step) {
    const steps = this.run ? this.run.about.neurons : [];
    return steps.length ? steps[nearest(steps, step)] : null;
  }

  play() {
    const last = () => Number(this.slider.max);
    let place = Number(this.slider.value) === last() ? 0 : Number(this.slider.value);
    this.playing = setInterval(() => {
      if (place > last()) { this.pause(); return; }
      this.choose(place);
      place += 1;
    }, FRAME_MS);
    this.playButton.textContent = "pause";
  }

  pause() {
    clearInterval(this.playing);
    this.playing = 0;
    this.playButton.textContent = "play";
  }
}

function nearest(steps, wanted) {
  let best = 0;
  steps.forEach((step, place) => {
    if (Math.abs(step - wanted) < Math.abs(steps[best] - wanted)) best = place;
  });
  return best;
}

// The groups of neurons that have a colour each: [name, colour, places].
function groupsOf(neurons, places, about) {
  if (!neurons.cluster || !about.clusters.length || about.clusters.length > MOST_GROUPS) {
    return Object.entries(about.signs).map(([name, colour], index) =>
      [name, colour, places.filter((i) => (neurons.second_layer[i] >= 0) === (index === 0))]);
  }
  const groups = about.clusters.map(([name, colour], index) =>
    [`serves ${name}`, colour, places.filter((i) => neurons.cluster[i] === index)]);
  return [...groups, ["serves none", "#888888", places.filter((i) => neurons.cluster[i] < 0)]].filter((group) => group[2].length);
}

// about: of the run: signs has label and colour of the neurons with a >= 0, then of the rest
function neuronFigure(neurons, ranges, about, themeName, level) {
  const theme = THEMES[themeName];
  const stride = Math.ceil(neurons.signal.length / MOST_POINTS);
  const places = neurons.signal.map((_, index) => index).filter((index) => index % stride === 0);
  const data = groupsOf(neurons, places, about).map(([name, colour, mine]) => {
    return {
      type: "scatter", mode: "markers", name,
      x: mine.map((i) => neurons.perp[i]),
      y: mine.map((i) => neurons.signal[i]),
      text: mine.map((i) => `neuron ${i}, a ${Number(neurons.second_layer[i]).toPrecision(3)}`),
      hovertemplate: "%{text}<br>|perp| %{x:.4g}, |sig| %{y:.4g}<extra></extra>",
      marker: {
        size: mine.map((i) => (neurons.perp[i] <= level * neurons.signal[i] ? 9 : 5)),
        color: inked(colour, theme), opacity: 0.65,
      },
    };
  });
  const axis = (title, range) => ({
    title: { text: title }, type: "log", range, dtick: range[1] - range[0] > 1.3 ? 1 : undefined,
    gridcolor: theme.grid, exponentformat: "power", zeroline: false,
  });
  return {
    data,
    layout: {
      paper_bgcolor: theme.paper, plot_bgcolor: theme.paper,
      font: { color: theme.ink, size: 11, family: FONT },
      margin: { l: 60, r: 20, t: 28, b: 44 },
      xaxis: axis("|perp|", ranges.x),
      yaxis: axis("|sig|", ranges.y),
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", itemsizing: "constant" },
      hovermode: "closest",
      shapes: [["dot", 1], ["dash", level]].flatMap(([dash, zeta]) => lineOf(zeta, dash, ranges)),
    },
  };
}

// The line |perp| = zeta |sig| inside the ranges; on two logarithmic axes it is a diagonal.
function lineOf(zeta, dash, ranges) {
  const shift = Math.log10(zeta);
  const [low, high] = [Math.max(ranges.x[0], ranges.y[0] + shift), Math.min(ranges.x[1], ranges.y[1] + shift)];
  return low < high ? [{
    type: "line", name: `zeta:${dash}`, x0: 10 ** low, y0: 10 ** (low - shift), x1: 10 ** high, y1: 10 ** (high - shift),
    line: { color: "#888888", width: 1, dash },
  }] : [];
}

// Ranges (in decades) that hold every neuron of some saved steps, so that the axes do not move.
function rangesOf(saved) {
  const range = (key) => {
    const values = saved.flatMap((neurons) => neurons[key]).filter((v) => v > 0).map(Math.log10);
    if (!values.length) return [-1, 1];
    const low = values.reduce((a, b) => Math.min(a, b));
    const high = values.reduce((a, b) => Math.max(a, b));
    const room = 0.05 * (high - low) || 0.5;
    return [low - room, high + room];
  };
  return { x: range("perp"), y: range("signal") };
}
