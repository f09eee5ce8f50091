// @ts-check
/** The choices of a pane: map, layer, head and class. */

import { choice as select, element } from "./element.js";
import { FUSES, labelName, mapNamed, targetWord } from "./maps.js";

/** @typedef {import("./maps.js").Choice} Choice */
/** @typedef {import("./maps.js").Model} Model */

export class Controls {
  element = element("div", { class: "controls" });
  #wanted;
  #shown = "";
  /** @type {Map<keyof Choice, HTMLSelectElement>} */
  #selects = new Map();

  /** @param {(wanted: Partial<Choice>) => void} wanted is told what was chosen */
  constructor(wanted) {
    this.#wanted = wanted;
  }

  /**
   * @param {Choice} choice
   * @param {Model} model
   * @param {string} predicted
   */
  show(choice, model, predicted) {
    const shown = JSON.stringify([model.name, model.version, choice.map, predicted]);
    // A list that is in use must stay: its focus would be lost with it.
    if (shown !== this.#shown) this.#build(choice, model, predicted);
    this.#shown = shown;
    for (const [name, list] of this.#selects) list.value = String(choice[name] ?? (name === "head" ? "mean" : ""));
  }

  /**
   * @param {Choice} choice
   * @param {Model} model
   * @param {string} predicted
   */
  #build(choice, model, predicted) {
    const map = mapNamed(model, choice.map);
    const maps = model.maps.map(({ name }) => /** @type {[string, string]} */ ([name, name]));
    const layers = map.layers.map((name, at) => /** @type {[string, string]} */ ([String(at), name]));
    const single = Array.from({ length: map.heads ?? 0 }, (_, at) => String(at));
    const heads = [...FUSES, ...single].map((head) => /** @type {[string, string]} */ ([head, headName(head, map.heads)]));
    const labels = model.labels.map((_, at) => /** @type {[string, string]} */ ([targetWord(model.labels, at), labelName(model.labels, at)]));
    const fields = /** @type {[keyof Choice, string, [string, string][]][]} */ ([
      ["map", "Map", maps],
      ["layer", "Layer", choice.layer === null ? [] : layers],
      ["head", map.heads === null ? "Fused by" : "Heads", map.options.includes("head") ? heads : []],
      ["target", "Class", map.options.includes("target") ? [["", `predicted (${predicted})`], ...labels] : []],
    ]);
    const focused = [...this.#selects].find(([, list]) => list === document.activeElement)?.[0];
    this.#selects.clear();
    this.element.replaceChildren();
    for (const [name, label, options] of fields) {
      if (!options.length) continue;
      const made = select(label, options, "", (value) => this.#wanted({ [name]: parsed(name, value) }));
      this.#selects.set(name, /** @type {HTMLSelectElement} */ (made.querySelector("select")));
      this.element.append(made);
    }
    if (focused) this.#selects.get(focused)?.focus();
  }
}

/**
 * @param {string} head
 * @param {number | null} heads
 * @returns {string}
 */
function headName(head, heads) {
  if (!FUSES.includes(head)) return `head ${head}`;
  return heads === null ? head : `${head} of ${heads}`;
}

/**
 * @param {keyof Choice} name
 * @param {string} value
 */
function parsed(name, value) {
  if (value === "") return null;
  return name === "layer" ? Number(value) : value;
}
