// Runs in memory, and the requests that bring them up to date for a view.
import { dependsOnRun, scaleOf, valueAt } from "./scales.js";
import { merged } from "./sources.js";

// Points per pixel column of a growing curve, at which the server thins it again.
const MOST_APPENDED = 4;

export class Loader {
  constructor(source) {
    this.source = source;
    this.runs = new Map(); // id to {id, about, series, labels, problem, ...}
    this.abort = null;
  }

  get(id) {
    return this.runs.get(id);
  }

  // Reads runs (entries of the list) as a view {axis, range, columns} needs them, labelled under
  // changed thresholds. Resolves to one error per run that could not be read; rejects if a later call
  // began.
  async load(entries, view, thresholds) {
    if (this.abort) this.abort.abort();
    const { signal } = (this.abort = new AbortController());
    const results = await Promise.allSettled(
      entries.map((entry) => this.bring(entry, view, thresholds, signal)),
    );
    signal.throwIfAborted();
    return results.flatMap((result, i) => (result.status === "rejected"
      ? [{ id: entries[i].id, error: result.reason }] : []));
  }

  async bring(entry, view, thresholds, signal) {
    const known = this.runs.get(entry.id);
    const asked = JSON.stringify([entry.revision, view, thresholds]);
    if (known && known.asked === asked) return;
    let [run, problem] = [null, ""];
    try {
      run = await this.read(entry, view, thresholds, signal);
    } catch (error) {
      if (signal.aborted || !Object.keys(thresholds).length) throw error;
      // invalid thresholds: show the run under its own ones
      run = await this.read(entry, view, {}, signal);
      problem = error.message;
    }
    if (signal.aborted) return; // a later request must not be overwritten
    this.runs.set(entry.id, { ...run, id: entry.id, revision: entry.revision, asked, problem });
  }

  async read(entry, view, thresholds, signal) {
    const known = this.runs.get(entry.id);
    const fresh = known && known.revision === entry.revision;
    const labelled = JSON.stringify(thresholds);
    const same = fresh && known.labelled === labelled;
    const about = fresh ? known.about : this.source.about(entry.id, signal);
    const options = { columns: view.columns, log: view.axis === "log" ? 1 : 0 };
    let [settled, labels] = [null, same && !known.labels.omitted ? known.labels : null];
    if (view.range && dependsOnRun(view.axis)) {
      labels ??= this.source.labels(entry.id, thresholds, options, signal);
      const [known, named] = await Promise.all([about, labels]);
      settled = { about: known, labels: named };
    }
    const span = spanOf(view, settled);
    const key = JSON.stringify([options, span]);
    labels ??= this.source.labels(entry.id, thresholds, { ...options, ...span }, signal);
    const series = same && known.key === key ? known.series
      : this.series(entry, { ...options, ...span }, thresholds, known, key, signal);
    const [a, s, l] = await Promise.all([about, series, labels]);
    return { about: a, series: s, labels: l, key, labelled };
  }

  // Only the newer points of a growing run, all points otherwise.
  async series(entry, options, thresholds, known, key, signal) {
    const ask = (more) => this.source.series(entry.id, { ...options, ...more }, thresholds, signal);
    const grows = known && known.key === key && entry.state === "running"
      && known.revision !== entry.revision && options.last === undefined
      && drawn(known.series) < MOST_APPENDED * options.columns;
    if (grows) {
      const newer = await ask({ first: known.series.last });
      if (newer.generation === known.series.generation) return merged(known.series, newer);
    }
    return ask({});
  }
}

function drawn(series) {
  return Math.max(0, ...Object.values(series.points).map(([steps]) => steps.length));
}

// The first and last step of a view; empty where the view has no range.
function spanOf({ axis, range }, run) {
  const scale = range && scaleOf(axis, run);
  if (!scale) return {};
  const [first, last] = range.map((place) => scale.from(valueAt(axis, place)));
  return Number.isFinite(first) && Number.isFinite(last) ? { first, last } : {};
}
