// @ts-check
/** What else can be changed of a map: how much of it is left out, and what a text's numbers are of. */

import { element } from "./element.js";
import { PLAIN, refinements } from "./maps.js";

/** @typedef {import("./maps.js").Choice} Choice */
/** @typedef {import("./maps.js").MapSummary} MapSummary */

/** @typedef {(wanted: Partial<Choice>) => void} Wanted */
/** @typedef {"discard" | "mass" | "top" | "special" | "words"} Name */

/**
 * @typedef {object} Field
 * @property {HTMLElement} element
 * @property {(choice: Choice) => void} show
 * @property {(choice: Choice) => string} said what it changes in words; nothing where it changes nothing
 */

const MOST = 2 ** 31 - 1; // values that can be kept, far beyond what any map has
const NAMES = /** @type {Name[]} */ (["discard", "mass", "top", "special", "words"]);

export class Options {
  #summary = element("span", { class: "note" });
  #reset = element("button", { type: "button", class: "quiet" }, "Reset");
  #fields;
  element;

  /** @param {Wanted} wanted is told what was chosen */
  constructor(wanted) {
    const nothing = Object.fromEntries(NAMES.map((name) => [name, PLAIN[name]]));
    const summary = element("summary", {}, "Options", this.#summary);
    this.#reset.addEventListener("click", () => {
      summary.focus(); // the button is about to be disabled, and would lose the focus to nowhere
      wanted(nothing);
    });
    /** @type {Record<Name, Field>} */
    this.#fields = {
      // A rollout is made anew for each share, so not while the slider is still moving.
      discard: slider({ name: "discard", label: "Discard the least attention:", ends: [0, 0.95], nothing: 0, word: "none", event: "change" }, wanted),
      mass: slider({ name: "mass", label: "Keep the largest, together:", ends: [0.05, 1], nothing: 1, word: "all", event: "input" }, wanted),
      top: count(wanted),
      special: tick("special", "Hide special tokens", "hide", "special tokens hidden", wanted),
      words: tick("words", "Whole words", true, "words", wanted),
    };
    const fields = NAMES.map((name) => this.#fields[name].element);
    this.element = element(
      "details",
      { class: "options" },
      summary,
      element("div", { class: "fields" }, ...fields, this.#reset),
    );
  }

  /**
   * @param {Choice} choice
   * @param {MapSummary} map
   */
  show(choice, map) {
    const taken = refinements(map);
    for (const name of NAMES) {
      const { element, show } = this.#fields[name];
      element.hidden = !taken.includes(name);
      show(choice);
    }
    const said = NAMES.map((name) => this.#fields[name].said(choice)).filter(Boolean);
    this.#summary.textContent = said.join(", ");
    this.#reset.disabled = !said.length;
  }
}

/**
 * A share, on a slider.
 * @param {object} of
 * @param {"discard" | "mass"} of.name
 * @param {string} of.label
 * @param {[number, number]} of.ends
 * @param {number} of.nothing the share that changes nothing
 * @param {string} of.word for that
 * @param {"input" | "change"} of.event that chooses it
 * @param {Wanted} wanted
 * @returns {Field}
 */
function slider({ name, label, ends: [min, max], nothing, word, event }, wanted) {
  const range = element("input", { type: "range", min, max, step: 0.05 });
  const shown = element("b", {});
  const say = (/** @type {number} */ share) => {
    shown.textContent = share === nothing ? word : percent(share);
    range.setAttribute("aria-valuetext", shown.textContent);
  };
  range.addEventListener("input", () => say(Number(range.value)));
  range.addEventListener(event, () => {
    const share = Number(range.value);
    wanted({ [name]: share === nothing ? null : share });
  });
  return {
    element: element("label", { class: "choice" }, element("span", {}, label, " ", shown), range),
    show(choice) {
      const share = choice[name] ?? nothing;
      range.value = String(share);
      say(share);
    },
    said({ [name]: share }) {
      return share === null ? "" : `${name} ${percent(share)}`;
    },
  };
}

/**
 * How many of the largest values are kept.
 * @param {Wanted} wanted
 * @returns {Field}
 */
function count(wanted) {
  let inForce = "";
  const box = element("input", { type: "number", min: 1, max: MOST, step: 1, placeholder: "all", inputmode: "numeric" });
  box.addEventListener("input", () => {
    if (box.validity.valid) wanted({ top: box.value ? Number(box.value) : null });
  });
  box.addEventListener("change", () => {
    box.value = inForce;
  });
  return {
    element: element("label", { class: "choice" }, element("span", {}, "Keep at most"), box),
    show({ top }) {
      inForce = String(top ?? "");
      if (box !== document.activeElement) box.value = inForce; // what is being typed is not written over
    },
    said: ({ top }) => (top === null ? "" : `top ${top}`),
  };
}

/**
 * @param {"special" | "words"} name
 * @param {string} label
 * @param {"hide" | true} value when it is ticked
 * @param {string} word
 * @param {Wanted} wanted
 * @returns {Field}
 */
function tick(name, label, value, word, wanted) {
  const box = element("input", { type: "checkbox" });
  box.addEventListener("change", () => wanted({ [name]: box.checked ? value : null }));
  return {
    element: element("label", { class: "tick" }, box, element("span", {}, label)),
    show(choice) {
      box.checked = choice[name] !== null;
    },
    said: (choice) => (choice[name] === null ? "" : word),
  };
}

/** @param {number} share */
function percent(share) {
  return `${Math.round(100 * share)} %`;
}
