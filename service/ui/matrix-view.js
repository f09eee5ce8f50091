// @ts-check
/** A matrix of frames by frames: which frame listens to which. */

import { pixels } from "./colors.js";
import { element } from "./element.js";

/** @typedef {import("./npy.js").Numbers} Numbers */
/** @typedef {import("./scale.js").Scale} Scale */
/** @typedef {import("./view.js").Look} Look */
/** @typedef {import("./view.js").Listener} Listener */

export class MatrixView {
  #canvas = element("canvas", { role: "img", "aria-label": "Rows: frames that listen; columns: frames that are heard" });
  #marker = element("div", { class: "row-marker" });
  element = element(
    "figure",
    { class: "matrix-view" },
    element("span", { class: "down" }, "frame that listens"),
    element("div", { class: "cells" }, this.#canvas, this.#marker),
    element("span", { class: "across" }, "frame that is heard"),
  );
  #frames = 1;

  /** @param {Listener} listener */
  constructor(listener) {
    this.#canvas.addEventListener("pointermove", (event) => listener.point(this.#under(event), "pointer"));
    this.#canvas.addEventListener("pointerleave", () => listener.point(null, "pointer"));
    this.#canvas.addEventListener("click", (event) => listener.pin(this.#under(event)));
  }

  /**
   * @param {Numbers} numbers [frames, frames]
   * @param {Scale} scale
   * @param {Look} look
   */
  show({ shape: [rows, columns], data }, scale, look) {
    this.#frames = rows;
    pixels(data, rows, columns, look.table, scale, this.#canvas);
  }

  /** @param {number} frame whose row is outlined */
  mark(frame) {
    this.#marker.style.top = `${(100 * frame) / this.#frames}%`;
    this.#marker.style.height = `${100 / this.#frames}%`;
  }

  /**
   * @param {MouseEvent} event
   * @returns {import("./view.js").Place}
   */
  #under(event) {
    const box = this.#canvas.getBoundingClientRect();
    const at = (/** @type {number} */ share) => Math.min(Math.max(Math.floor(share * this.#frames), 0), this.#frames - 1);
    return {
      frame: at((event.clientY - box.top) / box.height),
      other: at((event.clientX - box.left) / box.width),
    };
  }
}
