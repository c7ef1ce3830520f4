// Thresholds as sliders and numbers; elements stay while their values change, so that the focus stays.
import { button, h } from "./dom.js";

const LOGARITHMIC = new Set(["loss_target"]);
const SLIDERS = {
  zeta_enter: [0.05, 2], zeta_exit: [0.1, 4], linear_exit: [0.02, 1], finding_drift: [0.02, 1],
  loss_target: [1e-4, 1.4],
};
// A slider stops at its partner's value, because zeta_enter must not exceed zeta_exit.
const PARTNERS = { zeta_enter: ["zeta_exit", Math.min], zeta_exit: ["zeta_enter", Math.max] };

export class ThresholdPanel {
  // actions: {change(name, value), reset()}
  constructor(actions) {
    this.actions = actions;
    this.rows = new Map();
    this.first = h("div");
    this.rest = h("details", {}, h("summary", {}, "more thresholds"));
    this.element = h("fieldset", { id: "thresholds", hidden: true },
      h("legend", {}, "Thresholds"), this.first, this.rest,
      button("own", "as recorded", () => actions.reset()));
  }

  show(names, values) {
    this.element.hidden = false;
    for (const name of names) {
      if (!this.rows.has(name)) this.add(name);
      this.rows.get(name)(values[name]);
    }
  }

  // Adds a row, and keeps the function that sets its value.
  add(name) {
    const log = LOGARITHMIC.has(name);
    const [to, from] = log ? [Math.log10, (x) => 10 ** x] : [Number, Number];
    const number = h("input", { type: "number", step: "any", "aria-label": `${name}, exact` });
    const row = h("label", { className: "threshold" }, h("span", { title: name }, name));
    const bounds = SLIDERS[name];
    const slider = bounds && h("input", {
      type: "range", id: `threshold-${name}`, min: to(bounds[0]), max: to(bounds[1]),
      step: (to(bounds[1]) - to(bounds[0])) / 200, "aria-label": name,
    });
    const set = (value) => {
      this.values = { ...this.values, [name]: value };
      if (slider && document.activeElement !== slider) slider.value = to(value);
      if (document.activeElement !== number) number.value = Number(value.toPrecision(6));
    };
    number.addEventListener("input", () => {
      if (!Number.isFinite(number.valueAsNumber)) return;
      set(number.valueAsNumber);
      this.actions.change(name, number.valueAsNumber);
    });
    if (slider) {
      slider.addEventListener("input", () => {
        let value = Number(from(slider.valueAsNumber).toPrecision(4));
        if (PARTNERS[name]) value = PARTNERS[name][1](value, this.values[PARTNERS[name][0]]);
        slider.value = to(value);
        set(value);
        this.actions.change(name, value);
      });
      row.append(slider);
    }
    row.append(number);
    (slider ? this.first : this.rest).append(row);
    this.rows.set(name, set);
  }
}
