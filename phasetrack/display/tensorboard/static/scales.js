// Axes: from a run's steps to places on the chosen axis, and back.

export const AXES = {
  step: "optimizer step",
  relative: "seconds since the start",
  log: "optimizer step + 1",
  onset: "steps since the onset of signal-heaviness",
};
const END_MARGIN = 0.04; // share of the steps drawn behind the last one, so that its phase is visible
const LEAST_MARGIN = 0.5; // steps or seconds
const BEYOND = 0.5; // share of the whole width by which a view may pass either end
const FINEST = 1e-9; // share of the whole width: the narrowest range

export function onsetOf(labels) {
  const found = labels.boundaries.find((b) => b.name === "signal_heavy");
  return found && found.onset !== null ? found.onset : null;
}

// Functions from a run's steps to values on an axis and back, or null if the run lacks this axis. Only
// `relative` and `onset` depend on the run.
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

// Whether the steps in a range depend on the run.
export function dependsOnRun(axis) {
  return axis === "relative" || axis === "onset";
}

// A value in plotly's units: ranges and annotations on a logarithmic axis are in decades.
export function placeOf(axis, value) {
  return axis === "log" ? Math.log10(value) : value;
}

export function valueAt(axis, place) {
  return axis === "log" ? 10 ** place : place;
}

// The range that shows all of the runs (each with its scale), in the axis' own units.
export function wholeRange(axis, runs) {
  const ends = runs.flatMap((run) => [run.scale.to(run.series.first), run.scale.to(run.series.last)]);
  const places = ends.map((value) => placeOf(axis, value)).filter(Number.isFinite);
  if (!places.length) return [0, 1];
  const [low, high] = [Math.min(...places), Math.max(...places)];
  const least = axis === "log" ? 0.01 : LEAST_MARGIN;
  return [low, high + Math.max(END_MARGIN * (high - low), least)];
}

// A range cut to the whole range and some room beyond; null if it shows no part of the whole.
export function clamped(range, whole) {
  if (range === null) return null;
  const width = whole[1] - whole[0];
  const low = Math.max(range[0], whole[0] - BEYOND * width);
  const high = Math.min(range[1], whole[1] + BEYOND * width);
  const some = high - low > FINEST * width && low < whole[1] && high > whole[0];
  return some && high - low < width * (1 + BEYOND) ? [low, high] : null;
}

// Interpolates linearly between the pairs of a clock, and extrapolates its first or last segment.
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
