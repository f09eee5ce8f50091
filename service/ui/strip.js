// @ts-check
/** A clip's sampled frames in a row, each with a bar. */

import { pixels } from "./colors.js";
import { element, oncePerFrame } from "./element.js";
import { part } from "./npy.js";
import { written } from "./scale.js";

/** @typedef {import("./geometry.js").Seen} Seen */
/** @typedef {import("./npy.js").Numbers} Numbers */
/** @typedef {import("./scale.js").Scale} Scale */
/** @typedef {import("./stage.js").Picture} Picture */
/** @typedef {import("./view.js").Look} Look */

const SIDE = 120; // pixels of a frame's long side

export class Strip {
  #caption = element("p", { class: "note" });
  #list = element("div", { class: "strip", role: "listbox", "aria-label": "Frames", "aria-orientation": "horizontal" });
  element = element("div", { class: "strip-box" }, this.#list, this.#caption);
  #frames;
  #view;
  /** @type {HTMLElement[]} */
  #items;
  /** @type {HTMLCanvasElement[]} */
  #canvases;
  /** @type {HTMLElement[]} */
  #bars;
  #current = 0;
  #draw = oncePerFrame(
    (/** @type {Numbers | null} */ numbers, /** @type {Scale} */ scale, /** @type {Look} */ look, /** @type {number | null} */ only) =>
      this.#frames.forEach((_, at) => this.#drawFrame(at, only === null || only === at ? numbers : null, scale, look)),
  );

  /**
   * @param {object} of
   * @param {Seen} of.view
   * @param {Picture[]} of.frames
   * @param {number[]} of.timestamps
   * @param {(frame: number) => void} of.chosen
   * @param {(frame: number | null, by: "pointer" | "keyboard") => void} of.pointed
   */
  constructor({ view, frames, timestamps, chosen, pointed }) {
    const factor = SIDE / Math.max(view.width, view.height);
    this.#view = view;
    this.#frames = frames;
    this.#canvases = frames.map(() =>
      element("canvas", { width: Math.round(view.width * factor), height: Math.round(view.height * factor) }),
    );
    this.#bars = frames.map(() => element("span", { class: "bar" }));
    this.#items = frames.map((_, at) =>
      element(
        "div",
        { role: "option", class: "frame", tabindex: at ? -1 : 0, "data-frame": at, "aria-selected": "false" },
        this.#canvases[at],
        element("span", { class: "well" }, this.#bars[at]),
        element("span", { class: "time" }, `${timestamps[at].toFixed(2)} s`),
      ),
    );
    this.#list.append(...this.#items);
    this.#listen(chosen, pointed);
  }

  /**
   * Draw the frames under a map: [frames, rows, columns], one [rows, columns] for all, or none.
   * @param {Numbers | null} numbers
   * @param {Scale} scale
   * @param {Look} look
   * @param {number | null} only the one frame they are of
   */
  show(numbers, scale, look, only) {
    this.#draw(numbers, scale, look, only);
  }

  /**
   * Give each frame a bar.
   * @param {ArrayLike<number> | null} values
   * @param {string} caption
   */
  bars(values, caption) {
    const highest = values ? Math.max(...Array.from(values), 0) : 0;
    this.#caption.textContent = values ? `Bars: ${caption}` : "";
    this.#bars.forEach((bar, at) => {
      const value = values?.[at] ?? 0;
      bar.style.height = `${highest ? (100 * Math.max(value, 0)) / highest : 0}%`;
      this.#items[at].setAttribute("aria-label", `frame ${at + 1}${values ? `, ${caption} ${written(value)}` : ""}`);
      this.#items[at].title = values ? written(value) : "";
    });
  }

  /** @param {number} frame the one that is shown large */
  choose(frame) {
    this.#items[this.#current].setAttribute("aria-selected", "false");
    this.#items[this.#current].tabIndex = -1;
    this.#current = frame;
    this.#items[frame].setAttribute("aria-selected", "true");
    this.#items[frame].tabIndex = 0;
    const box = this.#list;
    const left = this.#items[frame].offsetLeft - box.offsetLeft;
    if (left < box.scrollLeft || left + this.#items[frame].offsetWidth > box.scrollLeft + box.clientWidth) {
      box.scrollLeft = left - box.clientWidth / 2;
    }
  }

  /** @param {(number | undefined)[]} frames that are pointed at */
  mark(frames) {
    this.#items.forEach((item, at) => item.toggleAttribute("data-on", frames.includes(at)));
  }

  /**
   * @param {number} at
   * @param {Numbers | null} numbers
   * @param {Scale} scale
   * @param {Look} look
   */
  #drawFrame(at, numbers, scale, look) {
    const canvas = this.#canvases[at];
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    const { image, left, top, width, height } = this.#frames[at];
    context.globalAlpha = 1;
    context.drawImage(image, left, top, width, height, 0, 0, canvas.width, canvas.height);
    if (!numbers || look.alpha === 0) return;
    const grid = numbers.shape.length === 3 ? part(numbers, at) : numbers;
    const factor = canvas.width / this.#view.width;
    const [x0, y0, x1, y1] = this.#view.seen.map((edge) => edge * factor);
    context.globalAlpha = look.alpha;
    context.imageSmoothingEnabled = look.smooth;
    context.drawImage(pixels(grid.data, grid.shape[0], grid.shape[1], look.table, scale), x0, y0, x1 - x0, y1 - y0);
  }

  /**
   * @param {(frame: number) => void} chosen
   * @param {(frame: number | null, by: "pointer" | "keyboard") => void} pointed
   */
  #listen(chosen, pointed) {
    const list = this.#list;
    list.addEventListener("pointerover", (event) => {
      const frame = frameOf(event.target);
      if (frame !== null) pointed(frame, "pointer");
    });
    list.addEventListener("pointerleave", () => pointed(null, "pointer"));
    list.addEventListener("click", (event) => {
      const frame = frameOf(event.target);
      if (frame !== null) chosen(frame);
    });
    list.addEventListener("focusin", (event) => {
      const frame = frameOf(event.target);
      if (frame !== null && list.querySelector(":focus-visible")) pointed(frame, "keyboard");
    });
    list.addEventListener("focusout", () => pointed(null, "keyboard"));
    list.addEventListener("keydown", (event) => {
      const last = this.#items.length - 1;
      const targets = { ArrowRight: this.#current + 1, ArrowLeft: this.#current - 1, Home: 0, End: last };
      if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in targets)) return;
      const frame = Math.min(Math.max(targets[/** @type {keyof targets} */ (event.key)], 0), last);
      chosen(frame);
      this.#items[frame].focus();
      event.preventDefault();
    });
  }
}

/**
 * @param {EventTarget | null} target
 * @returns {number | null}
 */
function frameOf(target) {
  const found = target instanceof Element ? target.closest("[data-frame]") : null;
  return found instanceof HTMLElement ? Number(found.dataset.frame) : null;
}
