// Below the figure: what happened in each run, its boundaries and its alerts, in the words of the server.
import { h, shortened } from "./dom.js";
import { boundaryName } from "./figure.js";

const MOST_ROWS = 100;
const MOST_ALERTS = 20; // of a run
const HEAD = ["run", "boundary", "onset", "detected"];

export function boundaryTable(runs) {
  const phases = runs.flatMap((run) => [
    h("p", {}, h("b", {}, shortened(run.id, 60)),
      `  ${run.labels.ended}${run.labels.reason ? `: ${run.labels.reason}` : ""}. ${run.labels.story}`),
    ...run.labels.alert_words.slice(0, MOST_ALERTS).map((text) => h("p", { className: "alert" }, `▲ ${text}`))]);
  const rows = runs.flatMap(rowsOf);
  const terms = runs.slice(0, 1).map((run) => glossary(run.about.glossary));
  if (!rows.length) return [...phases, ...terms];
  const omitted = runs.reduce((sum, run) => sum + ((run.labels.omitted || {}).boundaries || 0), 0);
  const more = Math.max(rows.length - MOST_ROWS, 0) + omitted;
  const body = rows.slice(0, MOST_ROWS)
    .map((row) => h("tr", {}, ...row.map((cell, i) => h("td", {}, i ? cell : shortened(cell, 40)))));
  const table = h("table", {},
    h("thead", {}, h("tr", {}, ...HEAD.map((name) => h("th", { scope: "col", title: runs[0].labels.terms }, name)))),
    h("tbody", {}, ...body));
  return [...phases, table, ...(more ? [h("p", { className: "note" }, `and ${more} more`)] : []), ...terms];
}

// The terms of the page, folded.
function glossary(terms) {
  const rows = Object.entries(terms || {}).flatMap(([term, text]) => [h("dt", {}, term), h("dd", {}, text)]);
  return h("details", {}, h("summary", {}, "what the terms mean"), h("dl", {}, ...rows));
}

function rowsOf(run) {
  return run.labels.boundaries.map((b) => [
    run.id, boundaryName(run, b.name), b.onset === null ? "–" : b.onset.toFixed(2), String(b.detected)]);
}
