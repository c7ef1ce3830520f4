// Makes one Plotly figure of runs and their labels: charts above each other on one axis of steps.
import { plain, shortened } from "./dom.js";
import { lanesOf } from "./lanes.js";
import { AXES, clamped, placeOf, scaleOf, wholeRange } from "./scales.js";
import { FONT, THEMES, faded, inked, readable } from "./theme.js";

const DASHES = ["solid", "dot", "dashdot", "longdash", "longdashdot"];
const LEGEND_WIDTH = 190;
const AXIS_WIDTH = 100; // as wide as the names of lanes
const LABEL_ROW = 14; // pixels of one row of boundary labels
const MOST_LABEL_ROWS = 4; // further names are counted instead
const MOST_LINES = 200; // boundaries and alerts in view: more cannot be told apart
const CHARACTER = 5.6; // pixels of an average character in a label
// Pixels: a row of a legend, the legend's padding, a chart's title, the gap between two charts, and
// the space below the last chart.
const LEGEND_ROW = 19;
const LEGEND_PADDING = 12;
const TITLE_ROW = 16;
const GAP = 26;
const FOOT = 44;
const MOST_NAMED = 14; // curves of one chart that its legend names
const FEW_POINTS = 20; // up to this many points are drawn as dots too: a single one makes no line

// shown: [{id, colour, about, series, labels}], the first run in front; view: {axis, range, theme,
// thresholds, neuronStep, width, height}, with the minimal height of the whole figure in pixels.
// Returns {data, layout, whole}, with `whole` the range that shows all steps.
export function figureOf(shown, view) {
  const theme = THEMES[view.theme];
  const many = shown.length > 1;
  const scaled = shown
    .map((run, index) => ({ ...run, index, scale: scaleOf(view.axis, run) }))
    .filter((run) => run.scale);
  const charts = chartsOf(shown);
  const data = charts.flatMap((chart, place) => headed(chart, [...scaled].reverse()
    .flatMap((run) => tracesOf(chart, place, run, many, theme))));
  const whole = wholeRange(view.axis, scaled);
  const range = clamped(view.range, whole) || whole;
  const seen = { ...view, range, plot: Math.max(view.width - LEGEND_WIDTH - AXIS_WIDTH, 100) };
  const marks = marksOf(scaled, many, seen, theme);
  const lanes = lanesOf(scaled, many, seen, whole, theme);
  const names = placed(marks, seen, theme, lanes.height);
  const head = 16 + lanes.height + LABEL_ROW * (1 + Math.max(0, ...names.map((name) => name.row)));
  const heights = heightsOf(charts, data, view.height - head - FOOT);
  const layout = layoutOf(charts, heights, head, seen, theme);
  setTicks(charts, data, view.thresholds, layout);
  // behind several runs, the phases of one would be read as those of all
  const bands = scaled.length && !many ? bandsOf(scaled[0], seen, whole[1], theme) : [];
  layout.shapes = [
    ...bands,
    ...lanes.shapes(layout.height - head - FOOT),
    ...levelsOf(charts, view.thresholds, theme),
    ...marks.slice(0, MOST_LINES).flatMap((mark) => mark.lines),
  ];
  layout.annotations = [
    ...titlesOf(charts, layout, theme),
    ...levelNamesOf(charts, view.thresholds, shown, theme),
    ...lanes.names,
    ...names.map(({ row, ...name }) => name),
  ];
  if (view.neuronStep !== null && scaled.length) {
    layout.shapes.push(vertical(scaled[0].scale.to(view.neuronStep), theme.faint, "dash", 1));
  }
  data.unshift(...scaled.flatMap((run) => phaseTrace(run, many, data)));
  return { data, layout, whole };
}

// Traces whose first one brings the chart's title into the hover box.
function headed(chart, traces) {
  return traces.map((trace, index) => (index ? trace : {
    ...trace, hovertemplate: `<b>${plain(chart.title)}</b><br>${trace.hovertemplate}`,
  }));
}

// An invisible trace that puts step and phase of a run into the first line of the hover box.
function phaseTrace(run, many, data) {
  const line = data.find((trace) => trace.run === run.id && trace.yaxis === "y");
  if (!line) return [];
  const steps = run.series.points[line.metric][0];
  const { timeline } = run.labels;
  let place = 0;
  const words = steps.map((step) => {
    while (place + 1 < timeline.length && timeline[place + 1].start <= step) place += 1;
    return timeline.length ? timeline[place].phase.toLowerCase().replaceAll("_", "-") : "";
  });
  const name = many ? `${plain(shortened(run.id, 24))} · ` : "";
  return [{
    type: "scatter", mode: "markers", x: line.x, y: line.y, xaxis: "x", yaxis: "y", name: "phase", run: run.id,
    showlegend: false, marker: { opacity: 0, color: line.line.color },
    customdata: steps.map((step, index) => [step, words[index]]),
    hovertemplate: `<b>${name}step %{customdata[0]} · %{customdata[1]}</b><extra></extra>`,
  }];
}

// The charts of all runs, each with the curves that any of the runs recorded.
function chartsOf(shown) {
  const charts = new Map();
  for (const chart of shown.flatMap((run) => run.about.charts)) {
    const known = charts.get(chart.title);
    const curves = known ? known.curves : [];
    const names = new Set(curves.map((curve) => curve.metric));
    const more = chart.curves.filter((curve) => !names.has(curve.metric));
    charts.set(chart.title, { ...chart, ...known, curves: [...curves, ...more] });
  }
  return [...charts.values()];
}

function key(axis, place) {
  return `${axis}${place ? place + 1 : ""}`;
}

// Heights of the charts in pixels: equal, except where a legend needs more.
function heightsOf(charts, data, room) {
  const least = charts.map((_, place) => {
    const named = data.filter((trace) => trace.yaxis === key("y", place) && trace.showlegend);
    return named.length * LEGEND_ROW + LEGEND_PADDING + TITLE_ROW - GAP;
  });
  // charts with long legends take their height first, the rest share what remains
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
    font: { color: theme.ink, size: 11, family: FONT },
    margin: { l: AXIS_WIDTH, r: LEGEND_WIDTH, t: head, b: FOOT },
    hovermode: "x unified",
    hoversubplots: "axis",
    hoverlabel: { bgcolor: theme.paper, font: { size: 10, color: theme.ink } },
    dragmode: "zoom",
    uirevision: "kept",
    xaxis: {
      title: { text: AXES[view.axis] },
      type: view.axis === "log" ? "log" : "linear",
      range: view.range,
      gridcolor: theme.grid,
      zeroline: view.axis === "onset",
      zerolinecolor: theme.faint,
      showspikes: true,
      spikemode: "across",
      spikesnap: "cursor",
      spikethickness: 1,
      spikecolor: theme.faint,
      spikedash: "solid",
      anchor: charts.length ? key("y", charts.length - 1) : "y",
      domain: [0, 1],
    },
  };
  let above = 0;
  charts.forEach((chart, place) => {
    const top = 1 - above / tall;
    above += heights[place] + GAP;
    layout[key("yaxis", place)] = {
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
    layout[key("legend", place)] = {
      x: 1.01, y: top, xanchor: "left", yanchor: "top", font: { size: 9 },
      bgcolor: "rgba(0,0,0,0)", tracegroupgap: 0, traceorder: "normal",
    };
  });
  return layout;
}

// Restricts the ticks of a logarithmic axis to powers of ten where it shows several of them.
function setTicks(charts, data, thresholds, layout) {
  charts.forEach((chart, place) => {
    if (!chart.log) return;
    let [low, high] = [Infinity, -Infinity];
    const drawn = data.filter((trace) => trace.yaxis === key("y", place)).map((trace) => trace.y);
    for (const y of [...drawn, chart.levels.map((name) => thresholds[name])].flat()) {
      if (y > 0) { low = Math.min(low, y); high = Math.max(high, y); }
    }
    if (high <= 20 * low) return;
    const axis = layout[key("yaxis", place)];
    axis.dtick = Math.ceil(Math.log10(high / low) / 5);
    axis.tickfont = { size: 8 }; // plotly draws powers a quarter larger
  });
}

function tracesOf(chart, place, run, many, theme) {
  const curves = chart.curves.filter((curve) => run.series.points[curve.metric]
    && (!many || curve.overlaid));
  return curves.map((curve, index) => {
    const [steps, values] = run.series.points[curve.metric];
    const colour = inked(many ? run.colour : curve.colour, theme);
    const edge = curve.role !== "line";
    // of several runs, the first chart's legend names each, and the front run's curves explain the dashes
    const namesRun = many && place === 0 && index === 0;
    const label = namesRun ? shortened(run.id, 24) : curve.label;
    const hover = many ? `${shortened(run.id, 24)} · ${curve.label}` : curve.label;
    return {
      type: "scatter",
      mode: steps.length <= FEW_POINTS && !curve.predicted ? "lines+markers" : "lines",
      x: steps.map(run.scale.to),
      y: chart.log ? values.map((v) => (v > 0 ? v : null)) : values,
      name: plain(label),
      run: run.id,
      metric: curve.metric,
      xaxis: "x",
      yaxis: key("y", place),
      legend: key("legend", place),
      showlegend: namesRun || ((!many || run.index === 0) && index < MOST_NAMED),
      marker: { size: 4 },
      line: {
        color: colour,
        width: edge || curve.predicted ? 1 : 1.6,
        dash: many ? DASHES[index % DASHES.length] : curve.dash,
      },
      fill: curve.role === "high" ? "tonexty" : "none",
      fillcolor: faded(colour, 0.1),
      hovertemplate: `${plain(hover)} %{y:.4g}<extra></extra>`,
    };
  });
}

// The bands of the phases in view. A band reaches from its first step to the first step of the next
// band. Bands that share a pixel are drawn as the first of them.
function bandsOf(run, view, end, theme) {
  const { timeline } = run.labels;
  const place = (x) => ((placeOf(view.axis, x) - view.range[0]) / (view.range[1] - view.range[0])) * view.plot;
  const bands = [];
  timeline.forEach((stretch, index) => {
    const next = timeline[index + 1];
    const x0 = run.scale.to(stretch.start);
    const last = Math.max(run.scale.to(stretch.end), view.axis === "log" ? 10 ** end : end);
    const x1 = next ? run.scale.to(next.start) : last;
    if (place(x1) < 0 || place(x0) > view.plot) return;
    const before = bands.at(-1);
    if (before && place(x1) - place(before.x0) < 1) { before.x1 = x1; return; }
    bands.push({
      type: "rect", name: `phase:${stretch.phase}`, xref: "x", yref: "paper",
      x0, x1, y0: 0, y1: 1, fillcolor: run.about.phases[stretch.phase], opacity: theme.band,
      line: { width: 0 }, layer: "below",
    });
  });
  return bands;
}

function vertical(x, colour, dash, width, name = "") {
  return {
    type: "line", name, xref: "x", yref: "paper", x0: x, x1: x, y0: 0, y1: 1,
    line: { color: colour, width, dash },
  };
}

// A boundary's name for people; unknown boundaries keep their own name.
export function boundaryName(run, name) {
  return Object.hasOwn(run.about.boundaries, name) ? run.about.boundaries[name] : name;
}

// Boundaries and alerts in view: {place, colour, text, hover, lines}, from left to right.
function marksOf(runs, many, view, theme) {
  const marks = runs.flatMap((run) => {
    const colour = many ? inked(run.colour, theme) : theme.ink;
    const { to } = run.scale;
    const boundaries = run.labels.boundaries.map((b) => ({
      at: to(b.onset === null ? b.detected : b.onset),
      colour,
      text: `${boundaryName(run, b.name)} ${b.onset === null ? "" : b.onset.toFixed(1)} (seen ${b.detected})`,
      lines: [
        ...(b.onset === null ? [] : [vertical(to(b.onset), colour, "solid", 1.3, `onset:${b.name}`)]),
        vertical(to(b.detected), colour, "dot", 1, `detected:${b.name}`),
      ],
    }));
    const alerts = run.labels.alerts.map((alert, place) => ({
      at: to(alert.step),
      colour: inked(run.about.alert, theme),
      text: `▲ ${alert.name} ${alert.step}`,
      hover: [wrapped(run.labels.alert_words[place]),
        ...Object.entries(alert.evidence).map(([name, value]) => `${name} ${value}`)].join("\n"),
      lines: [vertical(to(alert.step), inked(run.about.alert, theme), "dashdot", 1.3, `alert:${alert.name}`)],
    }));
    return [...boundaries, ...alerts];
  });
  return marks
    .map((mark) => ({ ...mark, place: placeOf(view.axis, mark.at) }))
    .filter(({ place }) => place >= view.range[0] && place <= view.range[1])
    .sort((a, b) => a.place - b.place);
}

// A text in lines that a hover box has room for.
function wrapped(text) {
  return text.replace(/(.{60,}?) /g, "$1\n");
}

// Annotations with the names of the marks, in rows above the lanes, which are `lift` pixels high.
function placed(marks, view, theme, lift) {
  const [low, high] = view.range;
  const ends = [];
  let hidden = 0;
  const names = marks.flatMap((mark) => {
    const long = mark.text.length * CHARACTER + 8;
    const middle = ((mark.place - low) / (high - low || 1)) * view.plot;
    const turned = middle + long > view.plot; // at the right end, the name is left of its line
    const left = turned ? middle - long : middle;
    const free = ends.findIndex((end) => end < left);
    const row = free < 0 ? ends.length : free;
    if (row >= MOST_LABEL_ROWS) { hidden += 1; return []; }
    ends[row] = left + long;
    return [{
      row, x: mark.place, xanchor: turned ? "right" : "left", ...above(row, lift), text: plain(mark.text),
      font: { size: 10, color: readable(mark.colour, theme) },
      ...(mark.hover ? { hovertext: plain(mark.hover).replaceAll("\n", "<br>"), captureevents: true } : {}),
    }];
  });
  if (!hidden) return names;
  const text = `${hidden} more: zoom in`;
  return [...names, {
    row: ends.length, x: high, xanchor: "right", ...above(ends.length, lift), text,
    font: { size: 10, color: theme.faint },
  }];
}

// An annotation in a row above the charts.
function above(row, lift) {
  return { xref: "x", yref: "paper", y: 1, yanchor: "bottom", yshift: 2 + lift + row * LABEL_ROW, showarrow: false };
}

function levelsOf(charts, thresholds, theme) {
  return charts.flatMap((chart, place) => chart.levels.map((name) => ({
    type: "line", name: `level:${name}`, xref: "paper", yref: key("y", place), x0: 0, x1: 1,
    y0: thresholds[name], y1: thresholds[name], line: { color: theme.faint, width: 1, dash: "dot" },
  })));
}

// A threshold's name for people, and a sentence about it.
export function thresholdWords(words, name) {
  return words && Object.hasOwn(words, name) ? words[name] : [name, name];
}

function levelNamesOf(charts, thresholds, shown, theme) {
  const words = shown.length ? shown[0].about.threshold_words : {};
  return charts.flatMap((chart, place) => chart.levels.map((name, index) => ({
    xref: "paper", yref: key("y", place), x: 0, xanchor: "left", yanchor: index ? "top" : "bottom",
    y: chart.log ? Math.log10(thresholds[name]) : thresholds[name],
    text: plain(`${thresholdWords(words, name)[0]} ${Number(thresholds[name]).toPrecision(3)}`), showarrow: false,
    font: { size: 9, color: theme.faint },
  })));
}

function titlesOf(charts, layout, theme) {
  return charts.map((chart, place) => ({
    xref: "paper", yref: "paper", x: 1.01, xanchor: "left", yanchor: "bottom",
    y: layout[key("yaxis", place)].domain[1], yshift: 1,
    text: `<b>${plain(chart.title)}</b>`, showarrow: false, font: { size: 11, color: theme.ink },
    ...(chart.footnote ? { hovertext: plain(chart.footnote), captureevents: true } : {}),
  }));
}
