// @ts-check
/** A picture with a map over it, each cell where the model saw it. */

import { pixels } from "./colors.js";
import { element } from "./element.js";
import { cellAt, middle, seenPart } from "./geometry.js";
import { smoothed } from "./smooth.js";

/** @typedef {import("./geometry.js").Seen} Seen */
/** @typedef {import("./geometry.js").Cell} Cell */
/** @typedef {import("./geometry.js").Point} Point */
/** @typedef {import("./npy.js").Numbers} Numbers */
/** @typedef {import("./scale.js").Scale} Scale */
/** @typedef {import("./view.js").Look} Look */
/** @typedef {import("./view.js").Listener} Listener */

const ENLARGED = 768; // pixels up to which a small picture grows, by a whole factor
const LONGEST = 1280;
const UNSEEN = "grayscale(1) brightness(0.35)";
const EDGE = "rgb(200 205 212)";

/**
 * @typedef {object} Picture a part of an image
 * @property {ImageBitmap} image
 * @property {number} left
 * @property {number} top
 * @property {number} width
 * @property {number} height
 */

export class Stage {
  element = element("div", { class: "stage", role: "application", tabindex: 0 });
  #view;
  #base = element("canvas", { class: "base" });
  #map = element("canvas", { class: "map" });
  #marks = element("canvas", { class: "marks" });
  #factor;
  /** @type {[number, number]} rows and columns of the map on it */
  #grid = [1, 1];
  /** @type {Cell} where the keyboard is */
  #cell = { row: 0, column: 0 };
  #listener;

  /**
   * @param {object} of
   * @param {Seen} of.view
   * @param {string} of.label
   * @param {Listener} of.listener
   */
  constructor({ view, label, listener }) {
    const longest = Math.max(view.width, view.height);
    this.#view = view;
    this.#listener = listener;
    this.#factor = longest <= ENLARGED ? Math.floor(ENLARGED / longest) : Math.min(1, LONGEST / longest);
    for (const canvas of [this.#base, this.#map, this.#marks]) {
      canvas.width = Math.round(view.width * this.#factor);
      canvas.height = Math.round(view.height * this.#factor);
    }
    this.element.setAttribute("aria-label", `${label}. Arrow keys move over its cells, Enter holds one.`);
    this.element.style.setProperty("--wide", String(view.width / view.height));
    this.element.append(this.#base, this.#map, this.#marks);
    this.#listen();
  }

  /** Width and height of a drawn pixel of the original. */
  get factor() {
    return this.#factor;
  }

  /** @param {Picture} picture */
  draw({ image, left, top, width, height }) {
    const context = /** @type {CanvasRenderingContext2D} */ (this.#base.getContext("2d"));
    const { width: wide, height: high } = this.#base;
    const [x0, y0, x1, y1] = seenPart(this.#view).map((at) => at * this.#factor);
    context.imageSmoothingEnabled = this.#factor <= 1;
    context.filter = UNSEEN;
    context.drawImage(image, left, top, width, height, 0, 0, wide, high);
    context.filter = "none";
    context.save();
    context.beginPath();
    context.rect(x0, y0, x1 - x0, y1 - y0);
    context.clip();
    context.drawImage(image, left, top, width, height, 0, 0, wide, high);
    context.restore();
    if (x0 > 0 || y0 > 0 || x1 < wide || y1 < high) {
      context.strokeStyle = EDGE;
      context.strokeRect(x0 - 0.5, y0 - 0.5, x1 - x0 + 1, y1 - y0 + 1);
    }
  }

  /**
   * Lay a map [rows, columns] over the picture; null takes it away.
   * @param {Numbers | null} numbers
   * @param {Scale} scale
   * @param {Look} look
   */
  cover(numbers, scale, look) {
    const context = /** @type {CanvasRenderingContext2D} */ (this.#map.getContext("2d"));
    context.clearRect(0, 0, this.#map.width, this.#map.height);
    this.element.toggleAttribute("data-bare", numbers === null || look.alpha === 0);
    if (numbers === null) return;
    const [rows, columns] = numbers.shape;
    this.#grid = [rows, columns];
    const drawn = look.smooth ? smoothed(numbers) : numbers;
    const cells = pixels(drawn.data, drawn.shape[0], drawn.shape[1], look.table, scale);
    const [left, top, right, bottom] = this.#view.seen.map((at) => at * this.#factor);
    context.imageSmoothingEnabled = false;
    context.drawImage(cells, left, top, right - left, bottom - top);
    this.#map.style.opacity = String(look.alpha);
  }

  /**
   * The cell over a point.
   * @param {Point} point
   * @returns {Cell | null}
   */
  cell(point) {
    return cellAt(this.#view, point, ...this.#grid);
  }

  /**
   * Outline the cells over these points.
   * @param {(Point | null)[]} points
   */
  mark(points) {
    const context = /** @type {CanvasRenderingContext2D} */ (this.#marks.getContext("2d"));
    context.clearRect(0, 0, this.#marks.width, this.#marks.height);
    const [left, top, right, bottom] = this.#view.seen.map((at) => at * this.#factor);
    const [rows, columns] = this.#grid;
    const [wide, high] = [(right - left) / columns, (bottom - top) / rows];
    const line = Math.max(2, this.#marks.width / 320);
    for (const point of points) {
      const cell = point && this.cell(point);
      if (!cell) continue;
      for (const [width, color] of /** @type {[number, string][]} */ ([[2 * line, "#000"], [line, "#fff"]])) {
        context.lineWidth = width;
        context.strokeStyle = color;
        context.strokeRect(left + cell.column * wide, top + cell.row * high, wide, high);
      }
    }
  }

  #listen() {
    const stage = this.element;
    stage.addEventListener("pointermove", (event) => {
      if (event.pointerType !== "touch") this.#listener.point(this.#centre(this.#under(event)), "pointer");
    });
    stage.addEventListener("pointerleave", () => this.#listener.point(null, "pointer"));
    stage.addEventListener("click", (event) => {
      const point = this.#centre(this.#under(event));
      if (point) this.#listener.pin(point);
    });
    stage.addEventListener("keydown", (event) => this.#key(event));
    stage.addEventListener("blur", () => this.#listener.point(null, "keyboard"));
  }

  /**
   * The original's point under the pointer.
   * @param {MouseEvent} event
   * @returns {Point}
   */
  #under(event) {
    const box = this.#base.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) / box.width) * this.#view.width,
      y: ((event.clientY - box.top) / box.height) * this.#view.height,
    };
  }

  /**
   * The middle of the cell over a point, so that moving within a cell changes nothing.
   * @param {Point} point
   * @returns {Point | null}
   */
  #centre(point) {
    const cell = this.cell(point);
    if (cell) this.#cell = cell;
    return cell && middle(this.#view, cell, ...this.#grid);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const [rows, columns] = this.#grid;
    const steps = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in steps) {
      const [down, across] = steps[/** @type {keyof steps} */ (event.key)];
      const row = Math.min(Math.max(this.#cell.row + down, 0), rows - 1);
      const column = Math.min(Math.max(this.#cell.column + across, 0), columns - 1);
      this.#cell = { row, column };
      this.#listener.point(middle(this.#view, this.#cell, rows, columns), "keyboard");
    } else if (event.key === "Enter" || event.key === " ") {
      this.#listener.pin(middle(this.#view, this.#cell, rows, columns));
    } else {
      return;
    }
    event.preventDefault();
  }
}
