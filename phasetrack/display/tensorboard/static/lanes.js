// Lanes above the charts: the labels of each run and vocabulary over the steps, in the run's own length.
import { plain, shortened } from "./dom.js";
import { placeOf, valueAt } from "./scales.js";
import { FONT, readable } from "./theme.js";

const LANE = 15; // pixels of a lane
const GAP = 2; // pixels between two lanes
const MOST_LANES = 18; // further vocabularies, then further runs, are left out
const LAST = 0.008; // share of the whole width that the last record of a lane takes
const CHARACTER = 5.6; // pixels of an average character
const OPACITY = 0.6;

// runs: those shown, in front first; whole: the range of all steps. Returns the height in pixels,
// the annotations, and the shapes as a function of the charts' height in pixels.
export function lanesOf(runs, many, view, whole, theme) {
  const every = chosen(runs.flatMap((run) => run.labels.lanes.map((lane, place) => ({ run, lane, place }))));
  const height = every.length * (LANE + GAP);
  const top = (index) => height - index * (LANE + GAP); // pixels above the charts
  const drawn = every.map((row, index) => ({
    ...row, top: top(index), stretches: inView(row, view, whole),
  }));
  return {
    height,
    names: drawn.flatMap((row) => [nameOf(row, many, theme), ...wordsOf(row, view, theme)]),
    shapes: (tall) => drawn.flatMap((row) => row.stretches.map((stretch) => ({
      type: "rect", name: `lane:${row.run.id}:${row.lane.name}:${stretch.phase}`, xref: "x", yref: "paper",
      x0: stretch.x0, x1: stretch.x1, y0: 1 + (row.top - LANE) / tall, y1: 1 + row.top / tall,
      fillcolor: stretch.colour, opacity: OPACITY, line: { width: 0 },
    }))),
  };
}

// The lanes that have room: the first lane of each run, then the others.
function chosen(rows) {
  const wanted = [...rows].sort((a, b) => Math.sign(a.place) - Math.sign(b.place)).slice(0, MOST_LANES);
  return rows.filter((row) => wanted.includes(row));
}

// The stretches of a lane that are in view; those that share a pixel are drawn as the first of them.
function inView({ run, lane }, view, whole) {
  const { to } = run.scale;
  const pixel = (x) => ((placeOf(view.axis, x) - view.range[0]) / (view.range[1] - view.range[0])) * view.plot;
  const found = [];
  lane.stretches.forEach((stretch, index) => {
    const next = lane.stretches[index + 1];
    const last = placeOf(view.axis, to(stretch.end)) + LAST * (whole[1] - whole[0]);
    const [x0, x1] = [to(stretch.start), next ? to(next.start) : valueAt(view.axis, last)];
    if (pixel(x1) < 0 || pixel(x0) > view.plot) return;
    const before = found.at(-1);
    if (before && pixel(x1) - pixel(before.x0) < 1) { before.x1 = x1; return; }
    found.push({ ...stretch, x0, x1 });
  });
  return found;
}

// The name left of a lane: the run at its first lane where there are several, the vocabulary otherwise.
function nameOf({ run, lane, place, top }, many, theme) {
  const name = many && !place ? run.id : lane.name;
  return {
    xref: "paper", x: 0, xanchor: "right", xshift: -4, ...at(top), text: plain(shortened(name, 17)),
    font: { size: 9, color: many ? readable(run.colour, theme) : theme.faint }, hovertext: plain(`${run.id}: ${lane.name}`),
    captureevents: true,
  };
}

// The words of the labels, where a stretch has room for them.
function wordsOf({ stretches, top }, view, theme) {
  const [low, high] = view.range;
  return stretches.flatMap((stretch) => {
    const left = Math.max(placeOf(view.axis, stretch.x0), low);
    const right = Math.min(placeOf(view.axis, stretch.x1), high);
    if (((right - left) / (high - low || 1)) * view.plot < stretch.words.length * CHARACTER) return [];
    return [{
      xref: "x", x: (left + right) / 2, xanchor: "center", ...at(top), text: plain(stretch.words),
      font: { size: 10, color: theme.ink, family: FONT },
    }];
  });
}

function at(top) {
  return { yref: "paper", y: 1, yanchor: "middle", yshift: top - LANE / 2, showarrow: false };
}
