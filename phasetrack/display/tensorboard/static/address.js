// Keeps the view in the page's address, so that a link restores it.
import { AXES } from "./scales.js";

const KEY = "p.phases.view"; // TensorBoard keeps query parameters of plugins under such names
// Parts of the view in a link, each with a check, because a link may come from anybody.
const FIELDS = {
  runs: (x) => Array.isArray(x) && x.every((id) => typeof id === "string"),
  axis: (x) => typeof x === "string" && Object.hasOwn(AXES, x),
  range: (x) => Array.isArray(x) && x.length === 2 && x.every(Number.isFinite) && x[0] < x[1],
  thresholds: (x) => typeof x === "object" && !Array.isArray(x) && Object.values(x).every(Number.isFinite),
  theme: (x) => ["auto", "light", "dark"].includes(x),
  filter: (x) => typeof x === "string",
  step: (x) => Number.isFinite(x),
};

export class Address {
  // frame: the window with the visible address
  constructor(frame) {
    this.frame = frame;
  }

  read() {
    const text = new URLSearchParams(this.frame.location.search).get(KEY);
    try {
      const view = JSON.parse(text || "{}");
      return Object.fromEntries(Object.entries(view).filter(([name, value]) => (
        Object.hasOwn(FIELDS, name) && value !== null && FIELDS[name](value))));
    } catch {
      return {};
    }
  }

  link(state) {
    const url = new URL(this.frame.location.href);
    const view = Object.fromEntries(Object.keys(FIELDS).map((name) => [name, state[name]]));
    url.searchParams.set(KEY, JSON.stringify(view));
    return url.href;
  }

  write(state) {
    try {
      this.frame.history.replaceState(this.frame.history.state, "", this.link(state));
    } catch { // browsers refuse this for pages on disk; "copy link" still works
    }
  }
}
