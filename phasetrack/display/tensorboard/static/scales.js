// How a run's steps lie on the axis that people chose.

export const AXES = {
  step: "optimizer step",
  relative: "seconds since the start",
  log: "optimizer step + 1",
  onset: "steps since the onset of signal-heaviness",
};
const END_MARGIN = 0.04; // of the steps, drawn behind the last one, so that its phase is seen
const LEAST_MARGIN = 0.5; // steps or seconds
const BEYOND = 0.5; // of the whole width, how far one may move past either end
const FINEST = 1e-9; // of the whole width: nobody zooms in further

export function onsetOf(labels) {
  const found = labels.boundaries.find((b) => b.name === "signal_heavy");
  return found && found.onset !== null ? found.onset : null;
}

// From a run's steps to values on an axis, and back; null where the run has no such axis. Only
// `relative` and `onset` look at the run.
export function scaleOf(axis, run) {
  if (axis === "log") return { to: (step) => Math.max(step, 0) + 1, from: (x) => x - 1 };
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

// Whether the steps that a range covers can only be told once a run is known.
export function dependsOnRun(axis) {
  return axis === "relative" || axis === "onset";
}

// Plotly's ranges and annotations on a logarithmic axis are in decades.
export function placeOf(axis, value) {
  return axis === "log" ? Math.log10(value) : value;
}

export function valueAt(axis, place) {
  return axis === "log" ? 10 ** place : place;
}

// The range that shows all of some runs (each with its scale), in the axis' own units.
export function wholeRange(axis, runs) {
  const ends = runs.flatMap((run) => [run.scale.to(run.series.first), run.scale.to(run.series.last)]);
  const places = ends.map((value) => placeOf(axis, value)).filter(Number.isFinite);
  if (!places.length) return [0, 1];
  const [low, high] = [Math.min(...places), Math.max(...places)];
  const least = axis === "log" ? 0.01 : LEAST_MARGIN;
  return [low, high + Math.max(END_MARGIN * (high - low), least)];
}

// A range no wider than the whole, and not far beyond it; null for one that shows nothing of it.
export function clamped(range, whole) {
  if (range === null) return null;
  const width = whole[1] - whole[0];
  const low = Math.max(range[0], whole[0] - BEYOND * width);
  const high = Math.min(range[1], whole[1] + BEYOND * width);
  const some = high - low > FINEST * width && low < whole[1] && high > whole[0];
  return some && high - low < width * (1 + BEYOND) ? [low, high] : null;
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
