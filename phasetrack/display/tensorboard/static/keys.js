// The list of keys, as a dialog.
import { button, h } from "./dom.js";

const KEYS = [
  ["/", "filter the runs"], ["+ −", "zoom in and out"], ["← →", "move along the steps"],
  ["0", "show all steps"], ["n p", "next and previous boundary"], ["a", "next axis"],
  ["t", "theme"], ["?", "this list"],
];

export function keysDialog() {
  const dialog = h("dialog", { id: "keys" },
    h("h2", {}, "Keys"),
    h("dl", {}, ...KEYS.flatMap(([key, action]) => [h("dt", {}, key), h("dd", {}, action)])),
    h("p", {}, "Drag over the charts to zoom, double-click to show all steps."),
    button("close", "close", () => dialog.close()));
  return dialog;
}
