// The table below the figure: the last phase of each run, its boundaries and its alerts.
import { h, shortened } from "./dom.js";
import { boundaryName } from "./figure.js";

const MOST_ROWS = 100;
const HEAD = ["run", "boundary or alert", "onset", "detected", "evidence"];

export function boundaryTable(runs) {
  const phases = runs.map((run) => h("p", {}, h("b", {}, shortened(run.id, 60)),
    `  ${run.labels.phase} at step ${run.series.last}${run.labels.reason ? `: ${run.labels.reason}` : ""}`));
  const rows = runs.flatMap(rowsOf);
  if (!rows.length) return phases;
  const omitted = runs.reduce((sum, run) => sum + ((run.labels.omitted || {}).boundaries || 0), 0);
  const more = Math.max(rows.length - MOST_ROWS, 0) + omitted;
  const body = rows.slice(0, MOST_ROWS)
    .map((row) => h("tr", {}, ...row.map((cell, i) => h("td", {}, i ? cell : shortened(cell, 40)))));
  const table = h("table", {},
    h("thead", {}, h("tr", {}, ...HEAD.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, ...body));
  return [...phases, table, ...(more ? [h("p", { className: "note" }, `and ${more} more`)] : [])];
}

function rowsOf(run) {
  const boundaries = run.labels.boundaries.map((b) => [
    run.id, boundaryName(run, b.name), b.onset === null ? "–" : b.onset.toFixed(2), String(b.detected), ""]);
  const alerts = run.labels.alerts.map((alert) => [
    run.id, `▲ ${alert.name}`, "–", String(alert.step),
    Object.entries(alert.evidence).map(([name, value]) => `${name} ${shown(value)}`).join(", ")]);
  return [...boundaries, ...alerts];
}

function shown(value) {
  return typeof value === "number" ? value.toPrecision(4) : value;
}
