// Sources of the page's data: TensorBoard's server, or the report's own text.

// The server did not answer at all; it may answer later.
export class Unreachable extends Error {}

export class ServerSource {
  // base: URL of the plugin's routes, with a slash at the end
  constructor(base) {
    this.base = base;
    this.live = true;
  }

  async ask(route, options = {}, signal = null) {
    let answer;
    try {
      answer = await fetch(this.url(route, options), { signal });
    } catch (error) {
      if (signal && signal.aborted) throw error;
      throw new Unreachable("TensorBoard does not answer; is it still running?");
    }
    const content = await answer.json().catch(() => ({ error: `status ${answer.status}` }));
    if (!answer.ok) throw new Error(content.error || `status ${answer.status}`);
    return content;
  }

  url(route, options) {
    const url = new URL(route, this.base);
    for (const [name, value] of Object.entries(options)) {
      if (value !== null && value !== undefined) url.searchParams.set(name, String(value));
    }
    return url;
  }

  // Thresholds may come from an untrusted link: options after them override equal names.
  runs() { return this.ask("runs"); }
  about(run, signal) { return this.ask("about", { run }, signal); }
  series(run, view, thresholds, signal) { return this.ask("series", { ...thresholds, ...view, run }, signal); }
  labels(run, thresholds, view, signal) { return this.ask("labels", { ...thresholds, ...view, run }, signal); }
  neurons(run, step) { return this.ask("neurons", { run, step }); }
  csvLink(run) { return this.url("csv", { run }).href; }
}

export class EmbeddedSource {
  // data: {runs: [entry], colours, series: {id: ...}, about: {id: ...}, labels: {id: ...}, neurons: {id: {step: ...}}}
  constructor(data) {
    this.data = data;
    this.live = false;
  }

  async runs() { return { runs: this.data.runs, problem: "", colours: this.data.colours }; }
  async about(run) { return this.data.about[run]; }
  async series(run) { return this.data.series[run]; }
  async labels(run) { return this.data.labels[run]; }
  async neurons(run, step) { return this.data.neurons[run][String(step)]; }

  csvLink(run) {
    const points = this.data.series[run].points;
    const names = Object.keys(points);
    const rows = new Map();
    names.forEach((name, column) => points[name][0].forEach((step, index) => {
      if (!rows.has(step)) rows.set(step, new Array(names.length).fill(""));
      rows.get(step)[column] = points[name][1][index] ?? "";
    }));
    // a spreadsheet would compute a name that begins like a formula
    const plain = (text) => (/^[=+\-@\t\r]/.test(text) ? `'${text}` : text);
    const quoted = (name) => {
      const text = plain(name);
      return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const lines = [["step", ...names.map(quoted)].join(",")];
    for (const step of [...rows.keys()].sort((a, b) => a - b)) {
      lines.push([step, ...rows.get(step)].join(","));
    }
    return URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
  }
}

// Appends the newer points of a growing run to the older ones.
export function merged(before, fresh) {
  const points = {};
  for (const [name, [steps, values]] of Object.entries(fresh.points)) {
    const [oldSteps, oldValues] = before.points[name] || [[], []];
    let start = 0;
    while (start < steps.length && steps[start] <= before.last) start += 1;
    points[name] = [oldSteps.concat(steps.slice(start)), oldValues.concat(values.slice(start))];
  }
  return { ...fresh, points };
}
