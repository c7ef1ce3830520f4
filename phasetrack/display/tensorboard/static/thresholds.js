// Thresholds as sliders and numbers; elements stay while their values change, so that the focus stays.
import { button, h } from "./dom.js";
import { thresholdWords } from "./figure.js";

const LOGARITHMIC = new Set(["loss_target"]);
const SLIDERS = {
  zeta_enter: [0.05, 2], zeta_exit: [0.1, 4], linear_exit: [0.02, 1], finding_drift: [0.02, 1],
  loss_target: [1e-4, 1.4],
};
// A threshold pushes its partner along, because zeta_enter must not exceed zeta_exit.
const PARTNERS = { zeta_enter: ["zeta_exit", Math.max], zeta_exit: ["zeta_enter", Math.min] };

export class ThresholdPanel {
  // actions: {change({name: value}), reset()}
  constructor(actions) {
    this.actions = actions;
    this.rows = new Map();
    this.first = h("div");
    this.rest = h("details", {}, h("summary", {}, "more thresholds"));
    this.element = h("fieldset", { id: "thresholds", hidden: true },
      h("legend", {}, "Thresholds"), this.first, this.rest,
      button("own", "as recorded", () => actions.reset()));
  }

  // words: the name and a sentence of each threshold
  show(names, values, words) {
    this.element.hidden = false;
    for (const name of names) {
      if (!this.rows.has(name)) this.add(name, thresholdWords(words, name));
      this.rows.get(name)(values[name]);
    }
  }

  // Adds a row, and keeps the function that sets its value.
  add(name, [title, sentence]) {
    const log = LOGARITHMIC.has(name);
    const [to, from] = log ? [Math.log10, (x) => 10 ** x] : [Number, Number];
    const number = h("input", { type: "number", step: "any", "aria-label": `${title}, exact` });
    const row = h("label", { className: "threshold", title: `${sentence} (${name})` }, h("span", {}, title));
    const bounds = SLIDERS[name];
    const slider = bounds && h("input", {
      type: "range", id: `threshold-${name}`, min: to(bounds[0]), max: to(bounds[1]),
      step: (to(bounds[1]) - to(bounds[0])) / 200, "aria-label": title,
    });
    const set = (value) => {
      this.values = { ...this.values, [name]: value };
      if (slider && document.activeElement !== slider) slider.value = to(value);
      if (document.activeElement !== number) number.value = Number(value.toPrecision(6));
    };
    number.addEventListener("input", () => {
      if (!Number.isFinite(number.valueAsNumber)) return;
      set(number.valueAsNumber);
      this.change(name, number.valueAsNumber);
    });
    if (slider) {
      slider.addEventListener("input", () => {
        const value = Number(from(slider.valueAsNumber).toPrecision(4));
        set(value);
        this.change(name, value);
      });
      row.append(slider);
    }
    row.append(number);
    (slider ? this.first : this.rest).append(row);
    this.rows.set(name, set);
  }

  // Reports a value, and that of the partner where the value pushes it.
  change(name, value) {
    const [partner, limit] = PARTNERS[name] || [];
    const pushed = partner ? limit(value, this.values[partner]) : value;
    const changes = { [name]: value };
    if (partner && pushed !== this.values[partner]) {
      changes[partner] = pushed;
      this.rows.get(partner)(pushed);
    }
    this.actions.change(changes);
  }
}
