// From runs and their labels to one Plotly figure: charts above each other on one axis of steps.

// One colour a run where several are shown: Okabe and Ito's, and darker or lighter ones of them.
export const RUN_COLOURS = [
  "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9",
  "#004a75", "#8a3d00", "#00664b", "#8f4a72", "#9c6b00", "#2b7fb0",
];
const THEMES = {
  light: { paper: "#ffffff", ink: "#222222", grid: "#e3e3e3", faint: "#666666", band: 0.16, lighter: 0 },
  dark: { paper: "#1e1e1e", ink: "#eeeeee", grid: "#3a3a3a", faint: "#aaaaaa", band: 0.2, lighter: 0.3 },
};
const DASHES = ["solid", "dot", "dashdot", "longdash", "longdashdot"];
const LEGEND_WIDTH = 190;
const LABEL_ROW = 14; // pixels of one row of boundary labels
const CHARACTER = 5.6; // pixels of a character in them, about
const END_MARGIN = 0.04; // of the steps, drawn behind the last one, so that its phase is seen
// Pixels of a row in a legend and around all of them, of a chart's title, between two charts, and
// below the last one.
const LEGEND_ROW = 19;
const LEGEND_PADDING = 12;
const TITLE_ROW = 16;
const GAP = 26;
const FOOT = 44;
const MOST_NAMED = 14; // curves of one chart in its legend
export const AXES = {
  step: "optimizer step",
  relative: "seconds since the start",
  log: "optimizer step + 1",
  onset: "steps since the onset of signal-heaviness",
};

export function colourOf(index) {
  return RUN_COLOURS[index % RUN_COLOURS.length];
}

// Text that Plotly shows as it is.
export function plain(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

export function shortened(text, length = 36) {
  const whole = String(text);
  if (whole.length <= length) return whole;
  const half = Math.floor((length - 1) / 2);
  return `${whole.slice(0, half)}…${whole.slice(-half)}`;
}

export function onsetOf(labels) {
  const found = labels.boundaries.find((b) => b.name === "signal_heavy");
  return found && found.onset !== null ? found.onset : null;
}

// How a run's steps lie on an axis, and back; null where the run has no such axis.
export function scaleOf(axis, run) {
  if (axis === "log") return { to: (step) => step + 1, from: (x) => x - 1 };
  if (axis === "onset") {
    const onset = onsetOf(run.labels);
    return onset === null ? null : { to: (step) => step - onset, from: (x) => x + onset };
  }
  if (axis === "relative") {
    const clock = run.about.clock;
    if (clock.length < 2) return null;
    return {
      to: (step) => interpolated(clock, step, 0, 1),
      from: (seconds) => interpolated(clock, seconds, 1, 0),
    };
  }
  return { to: (step) => step, from: (x) => x };
}

// Between the pairs of a clock, and along its first or last stretch beyond them.
function interpolated(pairs, value, from, to) {
  let low = 0;
  let high = pairs.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (pairs[middle][from] <= value) low = middle; else high = middle;
  }
  const [a, b] = [pairs[low], pairs[high]];
  const width = b[from] - a[from];
  return width === 0 ? a[to] : a[to] + ((value - a[from]) / width) * (b[to] - a[to]);
}

// shown: [{id, colour, about, series, labels}], the first one in front; view: {axis, range, theme,
// thresholds, neuronStep, width, height}; the height is the least of the whole figure, in pixels
export function figureOf(shown, view) {
  const theme = THEMES[view.theme];
  const charts = chartsOf(shown);
  const many = shown.length > 1;
  const scaled = shown
    .map((run) => ({ ...run, scale: scaleOf(view.axis, run) }))
    .filter((run) => run.scale);
  const data = [];
  charts.forEach((chart, place) => {
    for (const run of [...scaled].reverse()) {
      data.push(...tracesOf(chart, place, run, many, theme));
    }
  });
  const extent = extentOf(scaled, view);
  const whole = view.axis === "log" ? extent.map((x) => Math.log10(Math.max(x, 1e-9))) : extent;
  const range = view.range || whole;
  const names = boundaryNamesOf(scaled, many, range, view, theme);
  const head = 16 + LABEL_ROW * (2 + Math.max(0, ...names.map((name) => name.row)));
  names.forEach((name) => delete name.row);
  const heights = heightsOf(charts, data, view.height - head - FOOT);
  const layout = layoutOf(charts, heights, head, view, theme);
  layout.xaxis.range = range;
  setTicks(charts, data, view.thresholds, layout);
  const bands = scaled.length ? bandsOf(scaled[0], extent, theme) : [];
  layout.shapes = [
    ...bands,
    ...levelsOf(charts, view.thresholds, theme),
    ...scaled.flatMap((run) => linesOf(run, many, theme)),
  ];
  layout.annotations = [
    ...titlesOf(charts, layout, theme),
    ...levelNamesOf(charts, view.thresholds, theme),
    ...(scaled.length ? phaseNamesOf(scaled[0], bands, view, range, theme) : []),
    ...names,
  ];
  if (view.neuronStep !== null && scaled.length) {
    layout.shapes.push(vertical(scaled[0].scale.to(view.neuronStep), theme.faint, "dash", 1));
  }
  return { data, layout };
}

// The charts of the run that recorded most: another's curves are among them.
function chartsOf(shown) {
  const size = (run) => run.about.charts.reduce((sum, chart) => sum + chart.curves.length, 0);
  return shown.reduce((best, run) => (best === null || size(run) > size(best) ? run : best), null)?.about.charts || [];
}

// Pixels of each chart: the same for all, but for those whose legend needs more.
function heightsOf(charts, data, room) {
  const least = charts.map((_, place) => {
    const named = data.filter((trace) => trace.yaxis === axisName(place) && trace.showlegend);
    return named.length * LEGEND_ROW + LEGEND_PADDING + TITLE_ROW - GAP;
  });
  // what the long legends take is no longer there for the others
  let [share, left, count] = [0, room - GAP * (charts.length - 1), charts.length];
  for (const need of [...least].sort((a, b) => b - a)) {
    share = left / count;
    if (need <= share) break;
    left -= need;
    count -= 1;
  }
  return least.map((need) => Math.max(need, share));
}

function layoutOf(charts, heights, head, view, theme) {
  const tall = heights.reduce((sum, height) => sum + height, GAP * (charts.length - 1));
  const layout = {
    width: view.width,
    height: head + tall + FOOT,
    paper_bgcolor: theme.paper,
    plot_bgcolor: theme.paper,
    font: { color: theme.ink, size: 11, family: "Roboto, Helvetica, Arial, sans-serif" },
    margin: { l: 62, r: LEGEND_WIDTH, t: head, b: FOOT },
    hovermode: "x unified",
    hoversubplots: "axis",
    hoverlabel: { bgcolor: theme.paper, font: { size: 10, color: theme.ink } },
    dragmode: "zoom",
    uirevision: "kept",
    xaxis: {
      title: { text: AXES[view.axis] },
      type: view.axis === "log" ? "log" : "linear",
      gridcolor: theme.grid,
      zeroline: view.axis === "onset",
      zerolinecolor: theme.faint,
      showspikes: true,
      spikemode: "across",
      spikesnap: "cursor",
      spikethickness: 1,
      spikecolor: theme.faint,
      spikedash: "solid",
      anchor: charts.length ? axisName(charts.length - 1) : "y",
      domain: [0, 1],
    },
  };
  let above = 0;
  charts.forEach((chart, place) => {
    const top = 1 - above / tall;
    above += heights[place] + GAP;
    layout[`yaxis${place ? place + 1 : ""}`] = {
      domain: [Math.max(0, 1 - (above - GAP) / tall), top],
      type: chart.log ? "log" : "linear",
      gridcolor: theme.grid,
      zerolinecolor: theme.grid,
      fixedrange: true,
      exponentformat: "power",
      tickfont: { size: 10 },
      nticks: 5,
      anchor: "x",
    };
    layout[`legend${place ? place + 1 : ""}`] = {
      x: 1.01, y: top, xanchor: "left", yanchor: "top", font: { size: 9 },
      bgcolor: "rgba(0,0,0,0)", tracegroupgap: 0, traceorder: "normal",
    };
  });
  return layout;
}

// Powers of ten alone where a logarithmic axis shows several of them.
function setTicks(charts, data, thresholds, layout) {
  charts.forEach((chart, place) => {
    if (!chart.log) return;
    let [low, high] = [Infinity, -Infinity];
    const drawn = data.filter((trace) => trace.yaxis === axisName(place)).map((trace) => trace.y);
    for (const y of [...drawn, chart.levels.map((name) => thresholds[name])].flat()) {
      if (y > 0) { low = Math.min(low, y); high = Math.max(high, y); }
    }
    if (high <= 20 * low) return;
    const axis = layout[`yaxis${place ? place + 1 : ""}`];
    axis.dtick = Math.ceil(Math.log10(high / low) / 5);
    axis.tickfont = { size: 8 }; // plotly draws powers a quarter larger
  });
}

function axisName(place) {
  return `y${place ? place + 1 : ""}`;
}

function tracesOf(chart, place, run, many, theme) {
  const curves = chart.curves.filter((curve) => run.series.points[curve.metric]
    && (!many || curve.overlaid));
  return curves.map((curve, index) => {
    const [steps, values] = run.series.points[curve.metric];
    const colour = inked(many ? run.colour : curve.colour, theme);
    const edge = curve.role !== "line";
    // of several runs the first chart's legend names each, and the front one's curves say the dashes
    const namesRun = many && place === 0 && index === 0;
    const label = namesRun ? shortened(run.id, 24) : curve.label;
    const hover = many ? `${shortened(run.id, 24)} · ${curve.label}` : curve.label;
    return {
      type: "scatter",
      mode: steps.length <= 20 && !curve.predicted ? "lines+markers" : "lines",
      x: steps.map(run.scale.to),
      y: chart.log ? values.map((v) => (v > 0 ? v : null)) : values,
      name: plain(label),
      xaxis: "x",
      yaxis: axisName(place),
      legend: `legend${place ? place + 1 : ""}`,
      showlegend: namesRun || ((!many || run.index === 0) && index < MOST_NAMED),
      marker: { size: 4 },
      line: {
        color: colour,
        width: edge || curve.predicted ? 1 : 1.6,
        dash: many ? DASHES[index % DASHES.length] : curve.predicted ? "dash" : "solid",
      },
      fill: curve.role === "high" ? "tonexty" : "none",
      fillcolor: faded(colour, 0.1),
      hovertemplate: `${plain(hover)} %{y:.4g}<extra></extra>`,
    };
  });
}

// A colour that can be seen on the theme's paper.
function inked(colour, theme) {
  if (colour === "#000000") return theme.ink;
  if (!theme.lighter) return colour;
  const parts = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  const mixed = parts.map((part) => Math.round(part + (255 - part) * theme.lighter));
  return `#${mixed.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
}

function faded(colour, share) {
  const parts = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return `rgba(${parts.join(",")},${share})`;
}

// The first and last position of all runs, and a margin behind it.
function extentOf(runs, view) {
  const ends = runs.flatMap((run) => [run.scale.to(run.series.first), run.scale.to(run.series.last)]);
  const finite = ends.filter(Number.isFinite);
  if (!finite.length) return [0, 1];
  const [low, high] = [Math.min(...finite), Math.max(...finite)];
  if (view.axis === "log") return [low, high * (high / Math.max(low, 1)) ** END_MARGIN * 1.02];
  return [low, high + Math.max(END_MARGIN * (high - low), 1e-3)];
}

// A band reaches from its first step to that of the next one: boundaries stand where labels change.
export function bandsOf(run, extent, theme) {
  const timeline = run.labels.timeline;
  return timeline.map((stretch, index) => {
    const next = timeline[index + 1];
    return {
      type: "rect",
      name: `phase:${stretch.phase}`,
      xref: "x",
      yref: "paper",
      x0: run.scale.to(stretch.start),
      x1: next ? run.scale.to(next.start) : Math.max(extent[1], run.scale.to(stretch.end)),
      y0: 0,
      y1: 1,
      fillcolor: run.about.phases[stretch.phase],
      opacity: theme.band,
      line: { width: 0 },
      layer: "below",
    };
  });
}

function vertical(x, colour, dash, width, name = "") {
  return {
    type: "line", name, xref: "x", yref: "paper", x0: x, x1: x, y0: 0, y1: 1,
    line: { color: colour, width, dash },
  };
}

function linesOf(run, many, theme) {
  const colour = many ? inked(run.colour, theme) : theme.ink;
  const lines = [];
  for (const boundary of run.labels.boundaries) {
    if (boundary.onset !== null) {
      lines.push(vertical(run.scale.to(boundary.onset), colour, "solid", 1.3, `onset:${boundary.name}`));
    }
    lines.push(vertical(run.scale.to(boundary.detected), colour, "dot", 1, `detected:${boundary.name}`));
  }
  for (const alert of run.labels.alerts) {
    lines.push(vertical(run.scale.to(alert.step), "#D55E00", "dashdot", 1.3, `alert:${alert.name}`));
  }
  return lines;
}

function levelsOf(charts, thresholds, theme) {
  return charts.flatMap((chart, place) => chart.levels.map((name) => ({
    type: "line", name: `level:${name}`, xref: "paper", yref: axisName(place), x0: 0, x1: 1,
    y0: thresholds[name], y1: thresholds[name], line: { color: theme.faint, width: 1, dash: "dot" },
  })));
}

function levelNamesOf(charts, thresholds, theme) {
  return charts.flatMap((chart, place) => chart.levels.map((name, index) => ({
    xref: "paper", yref: axisName(place), x: 0, xanchor: "left", yanchor: index ? "top" : "bottom",
    y: chart.log ? Math.log10(thresholds[name]) : thresholds[name],
    text: plain(`${name} ${Number(thresholds[name]).toPrecision(3)}`), showarrow: false,
    font: { size: 9, color: theme.faint },
  })));
}

function titlesOf(charts, layout, theme) {
  return charts.map((chart, place) => ({
    xref: "paper", yref: "paper", x: 1.01, xanchor: "left", yanchor: "bottom",
    y: layout[`yaxis${place ? place + 1 : ""}`].domain[1], yshift: 1,
    text: `<b>${plain(chart.title)}</b>`, showarrow: false, font: { size: 11, color: theme.ink },
  }));
}

function boundaryNamesOf(runs, many, range, view, theme) {
  const names = runs.flatMap((run) => {
    const colour = many ? inked(run.colour, theme) : theme.ink;
    const called = (name) => run.about.boundaries[name] || name;
    const found = run.labels.boundaries.map((b) => ({
      at: run.scale.to(b.onset === null ? b.detected : b.onset),
      colour,
      text: `${called(b.name)} ${b.onset === null ? "" : b.onset.toFixed(1)} (seen ${b.detected})`,
    }));
    return found.concat(run.labels.alerts.map((alert) => ({
      at: run.scale.to(alert.step), colour: "#D55E00", text: `▲ ${alert.name} ${alert.step}`,
      hover: Object.entries(alert.evidence).map(([key, value]) => `${key} ${value}`).join("\n"),
    })));
  });
  return placed(names, range, view);
}

function chartWidth(view) {
  return Math.max(view.width - LEGEND_WIDTH - 62, 100);
}

// The name of each phase above its band, where it has room.
function phaseNamesOf(run, bands, view, range, theme) {
  const log = view.axis === "log";
  const at = (x) => (log ? Math.log10(Math.max(x, 1e-9)) : x);
  const [low, high] = range;
  return bands.flatMap((band, index) => {
    const [left, right] = [Math.max(at(band.x0), low), Math.min(at(band.x1), high)];
    const text = run.labels.timeline[index].phase.toLowerCase().replaceAll("_", "-");
    const room = ((right - left) / (high - low || 1)) * chartWidth(view);
    if (room < text.length * CHARACTER) return [];
    return [{
      xref: "x", yref: "paper", x: (left + right) / 2, y: 1, xanchor: "center", yanchor: "bottom",
      text, showarrow: false, font: { size: 10, color: theme.faint },
    }];
  });
}

// Labels beside each other where there is room, else in further rows; above the names of the phases.
function placed(names, [low, high], view) {
  const log = view.axis === "log";
  const width = chartWidth(view);
  const ends = [];
  return names
    .map((name) => ({ ...name, x: log ? Math.log10(name.at) : name.at }))
    .filter((name) => name.x >= low && name.x <= high)
    .sort((a, b) => a.x - b.x)
    .map((name) => {
      const long = name.text.length * CHARACTER + 8;
      const middle = ((name.x - low) / (high - low || 1)) * width;
      const turned = middle + long > width; // at the right end, a label stands left of its line
      const left = turned ? middle - long : middle;
      let row = ends.findIndex((end) => end < left);
      if (row < 0) row = ends.length;
      ends[row] = left + long;
      return {
        row, xref: "x", yref: "paper", x: name.x, y: 1, yanchor: "bottom",
        xanchor: turned ? "right" : "left",
        yshift: 2 + (row + 1) * LABEL_ROW, text: plain(name.text), showarrow: false,
        font: { size: 10, color: name.colour },
        ...(name.hover ? { hovertext: plain(name.hover), captureevents: true } : {}),
      };
    });
}
