// @ts-check
/** A text, or a pair of texts, with a number for each token. */

import { element, oncePerFrame } from "./element.js";
import { pieces, sums } from "./pieces.js";
import { written } from "./scale.js";
import { fill } from "./text-body.js";

/** @typedef {import("./pieces.js").Piece} Piece */
/** @typedef {import("./scale.js").Scale} Scale */
/** @typedef {import("./npy.js").Numbers} Numbers */
/** @typedef {import("./view.js").Look} Look */
/** @typedef {import("./view.js").Place} Place */
/** @typedef {import("./view.js").Listener} Listener */

const LISTED = 3;

export class TextView {
  element = element("div", { class: "text-view", role: "listbox" });
  onText = true;
  #on;
  #beside;
  #tokens;
  #of;
  /** @type {HTMLElement[][]} elements of each piece, those beside the texts last */
  #elements;
  /** @type {Int16Array} what they show at present */
  #levels;
  /** @type {Map<number, number>} piece of each token of the input */
  #pieceOf = new Map();
  #current = 0;
  #ramp = "";
  #marked = -1;
  #pinned = -1;
  #listener;
  #paint = oncePerFrame((/** @type {Uint8Array} */ levels) => this.#repaint(levels));

  /**
   * @param {object} of
   * @param {import("./layout.js").Layout} of.layout
   * @param {string[]} of.texts
   * @param {string} of.label
   * @param {Listener} of.listener
   */
  constructor({ layout, texts, label, listener }) {
    const { read } = layout;
    const { on, beside } = pieces(read, texts);
    this.#on = on;
    this.#beside = beside;
    this.#tokens = read.tokens;
    this.#of = layout.of;
    this.#listener = listener;
    [...on, ...beside].forEach((piece, at) => this.#own(piece).forEach((token) => this.#pieceOf.set(token, at)));
    this.#levels = new Int16Array(on.length + beside.length).fill(-1);
    this.#elements = fill(this.element, { on, beside, texts, read });
    this.element.setAttribute("aria-label", label);
    if (this.#elements.length) this.#elements[0][0].tabIndex = 0; // of an empty text nothing may be left
    this.#listen();
  }

  /**
   * Colour the tokens.
   * @param {Numbers} numbers by token
   * @param {Scale} scale
   * @param {Look} look
   */
  show(numbers, scale, { ramp }) {
    this.#ramp = ramp;
    this.#paint(Uint8Array.from(this.#sums(numbers), scale.level));
  }

  /**
   * The numbers that make up the scale: special tokens often hold most of the attention, and would leave
   * everything else pale.
   * @param {Numbers} numbers by token
   * @returns {Float64Array}
   */
  scaled({ data }) {
    return sums(this.#on.length ? this.#on : this.#beside, data);
  }

  /**
   * Mark the token that is pointed at, and the one that is held.
   * @param {Place | null} pointed
   * @param {Place | null} pinned
   */
  mark(pointed, pinned) {
    this.#swap("data-on", this.#marked, (this.#marked = this.#at(pointed)));
    this.#swap("aria-selected", this.#pinned, (this.#pinned = this.#at(pinned)), "true");
  }

  /**
   * A place and its number in words.
   * @param {Place} place
   * @param {Numbers} numbers
   * @returns {string}
   */
  describe(place, numbers) {
    const at = this.#at(place);
    if (at < 0) return "";
    const values = this.#sums(numbers);
    let rank = 1;
    for (const other of values) if (other > values[at]) rank += 1;
    return `${this.#name(at)}: ${written(values[at])}, place ${rank} of ${values.length}`;
  }

  /**
   * The tokens with the largest numbers, in words.
   * @param {Numbers} numbers
   * @returns {string}
   */
  highest(numbers) {
    const values = this.#sums(numbers);
    const order = [...values.keys()].sort((a, b) => values[b] - values[a]).slice(0, LISTED);
    return order.map((at) => `${this.#name(at)} (${written(values[at])})`).join(", ");
  }

  /**
   * The token in words.
   * @param {Place} place
   * @returns {string}
   */
  name(place) {
    const at = this.#at(place);
    return at < 0 ? "" : this.#name(at);
  }

  /**
   * The tokens of the input that stand at a place.
   * @param {Place} place
   * @returns {number[]}
   */
  tokens(place) {
    const at = this.#at(place);
    return at < 0 ? [] : this.#own(this.#piece(at));
  }

  /** @param {Numbers} numbers */
  #sums({ data }) {
    return sums([...this.#on, ...this.#beside], data);
  }

  /** @param {number} at */
  #name(at) {
    return `“${this.#piece(at).tokens.map((token) => this.#tokens[token].trim() || this.#tokens[token]).join(" + ")}”`;
  }

  /**
   * @param {Place | null} place
   * @returns {number} -1 for none
   */
  #at(place) {
    return place?.token === undefined ? -1 : (this.#pieceOf.get(place.token) ?? -1);
  }

  /**
   * @param {string} name
   * @param {number} from
   * @param {number} to
   * @param {string} [value]
   */
  #swap(name, from, to, value = "") {
    if (from === to) return;
    for (const one of this.#elements[from] ?? []) one.removeAttribute(name);
    for (const one of this.#elements[to] ?? []) one.setAttribute(name, value);
  }

  /** @param {Uint8Array} levels */
  #repaint(levels) {
    this.element.className = `text-view ${this.#ramp}`;
    for (let at = 0; at < levels.length; at += 1) {
      if (levels[at] === this.#levels[at]) continue;
      this.#levels[at] = levels[at];
      for (const one of this.#elements[at]) one.className = `t l${levels[at]}`;
    }
  }

  #listen() {
    this.element.addEventListener("pointerover", (event) => {
      const at = atOf(event.target);
      if (at !== this.#marked && at >= 0) this.#listener.point(this.#place(at), "pointer");
    });
    this.element.addEventListener("pointerleave", () => this.#listener.point(null, "pointer"));
    this.element.addEventListener("click", (event) => {
      const at = atOf(event.target);
      if (at >= 0) this.#listener.pin(this.#place(at));
    });
    this.element.addEventListener("focusin", (event) => {
      const at = atOf(event.target);
      if (at < 0) return;
      this.#rove(at);
      if (/** @type {HTMLElement} */ (event.target).matches(":focus-visible")) this.#listener.point(this.#place(at), "keyboard");
    });
    this.element.addEventListener("focusout", () => this.#listener.point(null, "keyboard"));
    this.element.addEventListener("keydown", (event) => this.#key(event));
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const last = this.#elements.length - 1;
    const targets = {
      ArrowRight: () => this.#current + 1,
      ArrowLeft: () => this.#current - 1,
      ArrowDown: () => this.#beyond(1),
      ArrowUp: () => this.#beyond(-1),
      Home: () => 0,
      End: () => last,
    };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter" || event.key === " ") this.#listener.pin(this.#place(this.#current));
    else if (event.key in targets) this.#focus(targets[/** @type {keyof targets} */ (event.key)](), last);
    else return;
    event.preventDefault();
  }

  /**
   * The token above or below.
   * @param {1 | -1} step
   * @returns {number}
   */
  #beyond(step) {
    const from = this.#elements[this.#current][0].getBoundingClientRect();
    let found = -1;
    let nearest = Infinity;
    let line = 0;
    for (let at = this.#current + step; at >= 0 && at < this.#elements.length; at += step) {
      const box = this.#elements[at][0].getBoundingClientRect();
      if (Math.abs(box.top - from.top) < from.height / 2) continue;
      line ||= box.top;
      if (Math.abs(box.top - line) > from.height / 2) break;
      const away = Math.abs(box.left - from.left);
      if (away < nearest) [found, nearest] = [at, away];
    }
    return found < 0 ? this.#current : found;
  }

  /**
   * @param {number} at
   * @param {number} last
   */
  #focus(at, last) {
    this.#elements[Math.min(Math.max(at, 0), last)][0].focus();
  }

  /** @param {number} at */
  #rove(at) {
    this.#elements[this.#current][0].tabIndex = -1;
    this.#current = at;
    this.#elements[at][0].tabIndex = 0;
  }

  /** @param {number} at */
  #place(at) {
    return { token: this.#own(this.#piece(at))[0] };
  }

  /** @param {number} at */
  #piece(at) {
    return at < this.#on.length ? this.#on[at] : this.#beside[at - this.#on.length];
  }

  /** @param {Piece} piece whose tokens of the input are wanted */
  #own({ tokens }) {
    return tokens.flatMap((token) => this.#of[token]);
  }
}

/**
 * @param {EventTarget | null} target
 * @returns {number}
 */
function atOf(target) {
  const found = target instanceof Element ? target.closest("[data-at]") : null;
  return found instanceof HTMLElement ? Number(found.dataset.at) : -1;
}
