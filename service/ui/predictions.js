// @ts-check
/** What the model answered: a bar for each label, which chooses the class of the map. */

import { element } from "./element.js";

/** @typedef {import("./session.js").Session} Session */

export class Predictions {
  #list = element("ol", { class: "bars" });
  #timing = element("p", { class: "note" });
  #hint = element("p", { class: "note" });
  element = element("div", {}, this.#list, this.#hint, this.#timing);
  #chosen;

  /** @param {(target: string | null) => void} chosen is told which class a map should be of; null, the predicted */
  constructor(chosen) {
    this.#chosen = chosen;
  }

  /**
   * @param {Session} session
   * @param {string | null} shown the label that the map is for, where it is for one
   * @param {boolean} choosable whether a map of this model is for a label
   */
  show({ model, prediction, answer }, shown, choosable) {
    const largest = Math.max(...prediction.top.map(({ score }) => Math.abs(score)), Number.MIN_VALUE);
    const values = model.activation === "none";
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset.label : undefined;
    this.#list.replaceChildren(
      ...prediction.top.map(({ label, score }) => {
        const fill = element("span", { class: "fill" });
        fill.style.width = `${(100 * Math.abs(score)) / (values ? largest : 1)}%`;
        const number = values ? score.toPrecision(3) : percent(score);
        const parts = [fill, element("span", { class: "label" }, label), element("span", { class: "score" }, number)];
        if (!choosable) return element("li", {}, element("div", { class: "bar-row" }, ...parts));
        const attributes = { type: "button", class: "bar-row", "aria-pressed": String(label === shown), "data-label": label };
        const button = element("button", { ...attributes, title: `Show the map for ${label}` }, ...parts);
        button.addEventListener("click", () => this.#chosen(label === prediction.label ? null : label));
        return element("li", {}, button);
      }),
    );
    if (focused !== undefined) {
      [...this.#list.querySelectorAll("button")].find((button) => button.dataset.label === focused)?.focus();
    }
    this.#hint.textContent = choosable ? "Choose a label to see the map for it." : "";
    const { total_ms: total, run_ms: run } = answer.timing;
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
