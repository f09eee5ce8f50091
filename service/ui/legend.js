// @ts-check
/** What the colours mean. */

import { element } from "./element.js";

/** @typedef {import("./scale.js").Scale} Scale */

export class Legend {
  #bar = element("canvas", { class: "bar", width: 256, height: 1, "aria-hidden": "true" });
  #low = element("span", {});
  #high = element("span", {});
  #note = element("span", { class: "note" });
  element = element("p", { class: "legend" }, this.#low, this.#bar, this.#high, this.#note);

  /**
   * @param {Scale} scale
   * @param {Uint8Array} table
   * @param {string[]} notes
   */
  show({ ends, caption }, table, notes) {
    const context = /** @type {CanvasRenderingContext2D} */ (this.#bar.getContext("2d"));
    const image = new ImageData(256, 1);
    for (let at = 0; at < 256; at += 1) image.data.set([...table.subarray(3 * at, 3 * at + 3), 255], 4 * at);
    context.putImageData(image, 0, 0);
    [this.#low.textContent, this.#high.textContent] = ends;
    this.#note.textContent = [caption, ...notes].join(" · ");
  }
}
