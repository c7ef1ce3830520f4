// The neuron view: each neuron's part in the signal span against what is left of it.

const COLOURS = { "a ≥ 0": "#0072B2", "a < 0": "#D55E00" };
// More neurons than that are thinned out, evenly (chosen here: what a browser draws at once).
const MOST_POINTS = 6000;

export function neuronFigure(neurons, ranges, theme) {
  const ink = theme === "dark" ? "#eeeeee" : "#222222";
  const paper = theme === "dark" ? "#1e1e1e" : "#ffffff";
  const grid = theme === "dark" ? "#3a3a3a" : "#e3e3e3";
  const stride = Math.ceil(neurons.signal.length / MOST_POINTS);
  const places = neurons.signal.map((_, index) => index).filter((index) => index % stride === 0);
  const data = Object.entries(COLOURS).map(([name, colour]) => {
    const mine = places.filter((i) => (neurons.second_layer[i] >= 0) === (name === "a ≥ 0"));
    return {
      type: "scatter", mode: "markers", name,
      x: mine.map((i) => neurons.perp[i]),
      y: mine.map((i) => neurons.signal[i]),
      text: mine.map((i) => `neuron ${i}, a ${Number(neurons.second_layer[i]).toPrecision(3)}`),
      hovertemplate: "%{text}<br>|perp| %{x:.4g}, |sig| %{y:.4g}<extra></extra>",
      marker: { size: 5, color: colour, opacity: 0.65 },
    };
  });
  const axis = (title, range) => ({
    title: { text: title }, type: "log", range, dtick: range[1] - range[0] > 1.3 ? 1 : undefined, gridcolor: grid, exponentformat: "power", zeroline: false,
  });
  const [low, high] = [Math.max(ranges.x[0], ranges.y[0]), Math.min(ranges.x[1], ranges.y[1])];
  return {
    data,
    layout: {
      paper_bgcolor: paper, plot_bgcolor: paper,
      font: { color: ink, size: 11, family: "Roboto, Helvetica, Arial, sans-serif" },
      margin: { l: 60, r: 20, t: 28, b: 44 },
      xaxis: axis("|perp|", ranges.x),
      yaxis: axis("|sig|", ranges.y),
      legend: { orientation: "h", y: 1.02, yanchor: "bottom" },
      hovermode: "closest",
      // where a neuron is as much signal as not
      shapes: low < high ? [{
        type: "line", x0: 10 ** low, y0: 10 ** low, x1: 10 ** high, y1: 10 ** high,
        line: { color: "#888888", width: 1, dash: "dot" },
      }] : [],
    },
  };
}

// Ranges (in decades) that hold every neuron of some saved steps, so that the view stands still.
export function rangesOf(saved) {
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
