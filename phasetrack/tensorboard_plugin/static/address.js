// The view in the page's address, so that a link restores it.

const KEY = "p.phases.view"; // TensorBoard keeps query parameters of plugins under such names
const FIELDS = ["runs", "axis", "range", "thresholds", "theme", "filter", "step"];

export class Address {
  // frame: the window whose address people see
  constructor(frame) {
    this.frame = frame;
  }

  read() {
    const text = new URLSearchParams(this.frame.location.search).get(KEY);
    try {
      return checked(JSON.parse(text || "{}"));
    } catch {
      return {};
    }
  }

  link(state) {
    const url = new URL(this.frame.location.href);
    const view = Object.fromEntries(FIELDS.map((name) => [name, state[name]]));
    url.searchParams.set(KEY, JSON.stringify(view));
    return url.href;
  }

  write(state) {
    try {
      this.frame.history.replaceState(this.frame.history.state, "", this.link(state));
    } catch { // a page on disk may not; its link then only lives in the clipboard
    }
  }
}

// Only what is of the right kind: a link is somebody's text.
function checked(view) {
  const kinds = {
    runs: (x) => Array.isArray(x) && x.every((id) => typeof id === "string"),
    axis: (x) => ["step", "relative", "log", "onset"].includes(x),
    range: (x) => Array.isArray(x) && x.length === 2 && x.every(Number.isFinite),
    thresholds: (x) => x !== null && typeof x === "object" && Object.values(x).every(Number.isFinite),
    theme: (x) => ["auto", "light", "dark"].includes(x),
    filter: (x) => typeof x === "string",
    step: (x) => Number.isFinite(x),
  };
  return Object.fromEntries(Object.entries(view)
    .filter(([name, value]) => kinds[name] && value !== null && kinds[name](value)));
}
