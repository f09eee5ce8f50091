// @ts-check
/** What the model answered: a bar for each label, which chooses the class of the map. */

import { element } from "./element.js";
import { labelName } from "./maps.js";
import { written } from "./scale.js";

/** @typedef {import("./session.js").Proof} Proof */
/** @typedef {import("./session.js").Session} Session */

export class Predictions {
  #list = element("ol", { class: "bars" });
  #timing = element("p", { class: "note" });
  #hint = element("p", { class: "note" });
  #proof = element("div", { class: "proof" });
  element = element("div", {}, this.#list, this.#hint, this.#timing, this.#proof);
  #chosen;

  /** @param {(index: number) => void} chosen is told for which label a map should be */
  constructor(chosen) {
    this.#chosen = chosen;
  }

  /**
   * @param {Session} session
   * @param {number | null} shown the index of the label that the map is for, where it is for one
   * @param {boolean} choosable whether a map of this model is for a label
   */
  show({ model, prediction, answer }, shown, choosable) {
    const largest = Math.max(...prediction.top.map(({ score }) => Math.abs(score)), Number.MIN_VALUE);
    const values = model.activation === "none";
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset.index : undefined;
    this.#list.replaceChildren(
      ...prediction.top.map(({ index, score }) => {
        const label = labelName(model.labels, index);
        const fill = element("span", { class: "fill" });
        fill.style.width = `${(100 * Math.abs(score)) / (values ? largest : 1)}%`;
        const number = values ? score.toPrecision(3) : percent(score);
        const parts = [fill, element("span", { class: "label" }, label), element("span", { class: "score" }, number)];
        if (!choosable) return element("li", {}, element("div", { class: "bar-row" }, ...parts));
        const attributes = { type: "button", class: "bar-row", "aria-pressed": String(index === shown), "data-index": index };
        const button = element("button", { ...attributes, title: `Show the map for ${label}` }, ...parts);
        button.addEventListener("click", () => this.#chosen(index));
        return element("li", {}, button);
      }),
    );
    if (focused !== undefined) {
      [...this.#list.querySelectorAll("button")].find((button) => button.dataset.index === focused)?.focus();
    }
    this.#hint.textContent = choosable ? "Choose a label to see the map for it." : "";
    const { total_ms: total, run_ms: run } = answer.timing;
    this.#proof.replaceChildren(...(prediction.verification ? proof(prediction.verification) : []));
    this.#timing.textContent = `${total.toFixed(0)} ms in all, ${run.toFixed(0)} ms in the model`;
  }
}

/**
 * @param {number} share
 * @returns {string}
 */
function percent(share) {
  return share > 0 && share < 0.0005 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
}

/**
 * @param {Proof} found
 * @returns {HTMLElement[]}
 */
function proof({ layer, row_sum_error: sums, output_error: outputs, tolerance, precision }) {
  const facts = { Layer: layer, "Row sums off by": written(sums), "Outputs off by": written(outputs), Tolerance: written(tolerance), Precision: precision };
  const rows = Object.entries(facts).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]);
  return [element("h3", {}, "Attention verified"), element("dl", { class: "facts" }, ...rows)];
}
