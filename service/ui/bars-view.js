// @ts-check
/** One bar for each channel. */

import { element } from "./element.js";
import { scaled, written } from "./scale.js";

/** @typedef {import("./npy.js").Numbers} Numbers */
/** @typedef {import("./scale.js").Scale} Scale */
/** @typedef {import("./view.js").Look} Look */
/** @typedef {import("./view.js").Place} Place */
/** @typedef {import("./view.js").Listener} Listener */

const [WIDE, HIGH] = [1024, 320];

export class BarsView {
  #canvas = element("canvas", { width: WIDE, height: HIGH });
  element = element("div", { class: "bars-view", role: "application", tabindex: 0 }, this.#canvas);
  #listener;
  /** @type {Numbers} */
  #numbers = { shape: [0], data: new Float32Array() };
  #scale = scaled([[0]], "", "peak");
  #table = new Uint8Array();
  #at = 0;
  /** @type {number[]} */
  #marked = [];

  /**
   * @param {object} of
   * @param {string} of.label
   * @param {Listener} of.listener
   */
  constructor({ label, listener }) {
    this.#listener = listener;
    this.element.setAttribute("aria-label", `${label}. Arrow keys move from bar to bar, Enter holds one.`);
    this.element.addEventListener("pointermove", (event) => listener.point(this.#under(event), "pointer"));
    this.element.addEventListener("pointerleave", () => listener.point(null, "pointer"));
    this.element.addEventListener("click", (event) => listener.pin(this.#under(event)));
    this.element.addEventListener("blur", () => listener.point(null, "keyboard"));
    this.element.addEventListener("keydown", (event) => this.#key(event));
  }

  /**
   * @param {Numbers} numbers [channels]
   * @param {Scale} scale
   * @param {Look} look
   */
  show(numbers, scale, look) {
    this.#numbers = numbers;
    this.#scale = scale;
    this.#table = look.table;
    this.#draw();
  }

  /** @param {Numbers} numbers */
  scaled({ data }) {
    return data;
  }

  /**
   * @param {Place | null} pointed
   * @param {Place | null} pinned
   */
  mark(pointed, pinned) {
    this.#marked = [pointed, pinned].flatMap((place) => place?.channel ?? []);
    this.#draw();
  }

  /**
   * @param {Place} place
   * @param {Numbers} numbers
   * @returns {string}
   */
  describe(place, { data }) {
    const value = place.channel === undefined ? undefined : data[place.channel];
    return value === undefined ? "" : `${this.name(place)}: ${written(value)}`;
  }

  /**
   * The channel with the largest number, in words.
   * @param {Numbers} numbers
   * @returns {string}
   */
  highest({ data }) {
    const at = data.indexOf(data.reduce((largest, value) => Math.max(largest, value), -Infinity));
    return `channel ${at} (${written(data[at])})`;
  }

  /** @param {Place} place */
  name(place) {
    return place.channel === undefined ? "" : `channel ${place.channel}`;
  }

  #draw() {
    const context = /** @type {CanvasRenderingContext2D} */ (this.#canvas.getContext("2d"));
    const { data } = this.#numbers;
    const wide = WIDE / data.length;
    const gap = wide > 6 ? 1 : 0;
    context.clearRect(0, 0, WIDE, HIGH);
    data.forEach((value, at) => {
      const row = this.#scale.level(value);
      const high = Math.max(2, ((HIGH - 8) * row) / 255);
      context.fillStyle = `rgb(${[...this.#table.subarray(3 * row, 3 * row + 3)]})`;
      context.fillRect(at * wide, HIGH - high, wide - gap, high);
    });
    context.fillStyle = getComputedStyle(this.element).color;
    for (const at of this.#marked) context.fillRect(at * wide, 0, Math.max(wide - gap, 2), 4);
  }

  /**
   * @param {MouseEvent} event
   * @returns {Place}
   */
  #under(event) {
    const box = this.#canvas.getBoundingClientRect();
    const count = this.#numbers.data.length;
    const at = Math.floor(((event.clientX - box.left) / box.width) * count);
    this.#at = Math.min(Math.max(at, 0), count - 1);
    return { channel: this.#at };
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const last = this.#numbers.data.length - 1;
    const targets = { ArrowRight: this.#at + 1, ArrowLeft: this.#at - 1, Home: 0, End: last };
    if (event.key === "Enter" || event.key === " ") {
      this.#listener.pin({ channel: this.#at });
    } else if (event.key in targets) {
      this.#at = Math.min(Math.max(targets[/** @type {keyof targets} */ (event.key)], 0), last);
      this.#listener.point({ channel: this.#at }, "keyboard");
    } else {
      return;
    }
    event.preventDefault();
  }
}
