// @ts-check
/** A picture with a grid of numbers. */

import { cellAt } from "./geometry.js";
import { written } from "./scale.js";
import { Stage } from "./stage.js";

/** @typedef {import("./npy.js").Numbers} Numbers */
/** @typedef {import("./scale.js").Scale} Scale */
/** @typedef {import("./view.js").Look} Look */
/** @typedef {import("./view.js").Place} Place */
/** @typedef {import("./view.js").Listener} Listener */

export class ImageView {
  #stage;
  #view;

  /**
   * @param {object} of
   * @param {import("./geometry.js").Seen} of.view
   * @param {ImageBitmap} of.image
   * @param {string} of.label
   * @param {Listener} of.listener
   */
  constructor({ view, image, label, listener }) {
    this.#view = view;
    this.#stage = new Stage({ view, label, listener });
    this.#stage.draw({ image, left: 0, top: 0, width: image.width, height: image.height });
  }

  get element() {
    return this.#stage.element;
  }

  /**
   * @param {Numbers} numbers [rows, columns]
   * @param {Scale} scale
   * @param {Look} look
   */
  show(numbers, scale, look) {
    this.#stage.cover(numbers, scale, look);
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
    this.#stage.mark([pointed, pinned].map(asPoint));
  }

  /**
   * @param {Place} place
   * @param {Numbers} numbers
   * @returns {string}
   */
  describe(place, { shape, data }) {
    const point = asPoint(place);
    const cell = point && cellAt(this.#view, point, shape[0], shape[1]);
    return cell ? `${cellName(cell)}: ${written(data[cell.row * shape[1] + cell.column])}` : "";
  }

  /**
   * The cell with the largest number, in words.
   * @param {Numbers} numbers
   * @returns {string}
   */
  highest({ shape, data }) {
    const at = data.indexOf(data.reduce((largest, value) => Math.max(largest, value), -Infinity));
    const cell = { row: Math.floor(at / shape[1]), column: at % shape[1] };
    return `${cellName(cell)} (${written(data[at])})`;
  }

  /**
   * @param {Place} place
   * @returns {string}
   */
  name(place) {
    const point = asPoint(place);
    const cell = point && this.#stage.cell(point);
    return cell ? cellName(cell) : "";
  }
}

/**
 * @param {import("./geometry.js").Cell} cell
 * @returns {string}
 */
export function cellName({ row, column }) {
  return `row ${row + 1}, column ${column + 1}`;
}

/**
 * @param {Place | null} place
 * @returns {import("./geometry.js").Point | null}
 */
export function asPoint(place) {
  return place?.x === undefined || place.y === undefined ? null : { x: place.x, y: place.y };
}
