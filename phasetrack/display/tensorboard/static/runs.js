// The list of runs: rows keep their elements while the list changes, so that the focus stays.
import { h, shortened } from "./dom.js";

const SHOWABLE = new Set(["finished", "running", "stopped", "damaged"]);

export function canBeShown(entry) {
  return SHOWABLE.has(entry.state);
}

export class RunList {
  // actions: {toggle(id, on), only(id)}
  constructor(actions) {
    this.actions = actions;
    this.rows = new Map();
    this.nothing = h("li", { className: "nothing" });
    this.list = h("ul", { id: "runs", "aria-label": "runs" });
    this.problem = h("p", { className: "note" });
    this.element = h("div", { className: "list" }, this.list, this.problem);
  }

  // entries of the server, a regular expression, colours of the shown runs by id, a problem of the list
  draw(entries, filter, colours, problem) {
    const wanted = entries.filter(matcher(filter));
    const rows = wanted.map((entry) => this.row(entry, colours.get(entry.id)));
    if (!rows.length) {
      this.nothing.textContent = entries.length ? "no run matches" : "no runs";
      rows.push(this.nothing);
    }
    rows.forEach((row, place) => {
      if (this.list.children[place] !== row) this.list.insertBefore(row, this.list.children[place] || null);
    });
    while (this.list.children.length > rows.length) this.list.lastChild.remove();
    const known = new Set(entries.map((entry) => entry.id));
    for (const id of this.rows.keys()) if (!known.has(id)) this.rows.delete(id);
    this.problem.textContent = problem;
  }

  row(entry, colour) {
    if (!this.rows.has(entry.id)) this.rows.set(entry.id, this.make(entry.id));
    const row = this.rows.get(entry.id);
    const { box, swatch, about, only, problem } = row.parts;
    const showable = canBeShown(entry);
    row.className = entry.state;
    const label = entry.phase ? `${entry.phase}${entry.steps ? `, ${entry.steps} steps` : ""}` : entry.state;
    row.title = `${entry.id}\n${entry.problem || label}`;
    box.checked = colour !== undefined;
    box.disabled = !showable && !box.checked;
    swatch.style.background = colour || "none";
    const alerts = (entry.alerts || []).map((name) => ` ▲ ${name}`).join("");
    about.textContent = (entry.state === "finished" ? entry.phase : entry.state) + alerts;
    only.hidden = !showable;
    problem.textContent = entry.problem;
    problem.hidden = !entry.problem;
    return row;
  }

  make(id) {
    const box = h("input", { type: "checkbox", onchange: () => this.actions.toggle(id, box.checked) });
    box.dataset.run = id;
    const swatch = h("span", { className: "swatch" });
    const about = h("span", { className: "about" });
    const only = h("button", {
      type: "button", className: "only", title: "show only this run", onclick: () => this.actions.only(id),
    }, "only");
    const problem = h("p", { className: "problem" });
    const name = h("span", { className: "name" }, shortened(id, 44));
    const row = h("li", {}, h("label", {}, box, swatch, name), about, only, problem);
    row.parts = { box, swatch, about, only, problem };
    return row;
  }
}

function matcher(filter) {
  try {
    const expression = new RegExp(filter, "i");
    return (entry) => expression.test(entry.id);
  } catch { // an incomplete expression is taken as plain text
    return (entry) => entry.id.includes(filter);
  }
}
