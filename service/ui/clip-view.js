// @ts-check
/** A clip's sampled frames with their maps: one frame large, all of them in a strip, and a way to scrub. */

import { element } from "./element.js";
import { asPoint, cellName } from "./image-view.js";
import { MatrixView } from "./matrix-view.js";
import { part } from "./npy.js";
import { scaled, written } from "./scale.js";
import { Stage } from "./stage.js";
import { Strip } from "./strip.js";

/** @typedef {import("./npy.js").Numbers} Numbers */
/** @typedef {import("./scale.js").Scale} Scale */
/** @typedef {import("./stage.js").Picture} Picture */
/** @typedef {import("./view.js").Look} Look */
/** @typedef {import("./view.js").Place} Place */
/** @typedef {import("./view.js").Listener} Listener */

const QUICKEST = 80; // milliseconds a frame is shown, at least
const SLOWEST = 800;

export class ClipView {
  #stage;
  #matrix;
  #strip;
  #frames;
  #timestamps;
  #slider = element("input", { type: "range", min: 0, step: 1, value: 0, "aria-label": "Frame" });
  #play = element("button", { type: "button", class: "quiet", "aria-pressed": "false" }, "Play");
  #time = element("output", { class: "note" });
  element = element("div", { class: "clip-view" });
  /** @type {Numbers} */
  #numbers = { shape: [0], data: new Float32Array() };
  #scale = scaled([[0]], "", "peak");
  /** @type {Look | null} */
  #look = null;
  #frame = 0;
  #playing = 0;
  #setFrame;

  /**
   * @param {object} of
   * @param {import("./geometry.js").Seen} of.view
   * @param {Picture[]} of.frames
   * @param {number[]} of.timestamps seconds
   * @param {string} of.label
   * @param {Listener} of.listener
   * @param {(frame: number) => void} of.setFrame
   */
  constructor({ view, frames, timestamps, label, listener, setFrame }) {
    const withFrame = (/** @type {Place | null} */ place) => place && { ...place, frame: this.#frame };
    this.#frames = frames;
    this.#timestamps = timestamps;
    this.#setFrame = setFrame;
    this.#matrix = new MatrixView(listener);
    this.#stage = new Stage({
      view,
      label,
      listener: {
        point: (place, by) => listener.point(withFrame(place), by),
        pin: (place) => listener.pin({ ...place, frame: this.#frame }),
      },
    });
    this.#strip = new Strip({
      view,
      frames,
      timestamps,
      chosen: setFrame,
      pointed: (frame, by) => listener.point(frame === null ? null : { frame }, by),
    });
    this.#slider.max = String(frames.length - 1);
    this.#slider.addEventListener("input", () => setFrame(Number(this.#slider.value)));
    this.#play.addEventListener("click", () => (this.#playing ? this.pause() : this.#next()));
    const scrub = element("div", { class: "scrub" }, this.#play, this.#slider, this.#time);
    this.element.append(this.#stage.element, this.#matrix.element, scrub, this.#strip.element);
  }

  /**
   * @param {Numbers} numbers [frames, rows, columns], [rows, columns] for all frames, [frames], or a matrix
   *   of frames
   * @param {Scale} scale
   * @param {Look} look
   * @param {string} kind of the map
   */
  show(numbers, scale, look, kind) {
    const isMatrix = kind === "frame_matrix";
    this.#numbers = numbers;
    this.#scale = scale;
    this.#look = look;
    this.#stage.element.hidden = isMatrix;
    this.#matrix.element.hidden = !isMatrix;
    if (isMatrix) this.#matrix.show(numbers, scale, look);
    this.#drawFrame();
    this.#strip.show(this.#grids ? numbers : null, scale, look, kind === "grid_matrix" ? this.#frame : null);
  }

  /** @param {Numbers} numbers */
  scaled({ data }) {
    return data;
  }

  /**
   * @param {ArrayLike<number> | null} values one for each frame
   * @param {string} caption
   */
  bars(values, caption) {
    this.#strip.bars(values, caption);
  }

  /** @param {number} frame to be shown large */
  showFrame(frame) {
    this.#frame = frame;
    this.#slider.value = String(frame);
    const time = `frame ${frame + 1} of ${this.#frames.length}, ${this.#timestamps[frame].toFixed(2)} s`;
    this.#slider.setAttribute("aria-valuetext", time);
    this.#time.textContent = time;
    this.#strip.choose(frame);
    this.#matrix.mark(frame);
    this.#drawFrame();
  }

  /**
   * @param {Place | null} pointed
   * @param {Place | null} pinned
   */
  mark(pointed, pinned) {
    const here = [pointed, pinned].map((place) => (place?.frame === this.#frame ? asPoint(place) : null));
    this.#stage.mark(here);
    this.#strip.mark([pointed?.frame, pinned?.frame]);
  }

  /**
   * @param {Place} place
   * @param {Numbers} numbers
   * @returns {string}
   */
  describe(place, numbers) {
    const value = this.#value(place, numbers);
    return value === undefined ? "" : `${this.name(place)}: ${written(value)}`;
  }

  /**
   * The place with the largest number, in words.
   * @param {Numbers} numbers
   * @returns {string}
   */
  highest({ shape, data }) {
    const at = data.indexOf(data.reduce((largest, value) => Math.max(largest, value), -Infinity));
    const last = shape[shape.length - 1];
    const row = Math.floor(at / last) % (shape[shape.length - 2] ?? 1);
    const value = `(${written(data[at])})`;
    if (shape.length === 1) return `frame ${at + 1} ${value}`;
    if (!this.#grids) return `frame ${row + 1} listening to frame ${(at % last) + 1} ${value}`;
    const frame = shape.length === 3 ? `frame ${Math.floor(at / (last * shape[1])) + 1}, ` : "";
    return `${frame}${cellName({ row, column: at % last })} ${value}`;
  }

  /**
   * @param {Place} place
   * @returns {string}
   */
  name(place) {
    const point = asPoint(place);
    const cell = point && this.#stage.cell(point);
    const frame = place.frame === undefined ? "" : `frame ${place.frame + 1}`;
    if (place.other !== undefined) return `${frame} listening to frame ${place.other + 1}`;
    return cell ? `${frame}, ${cellName(cell)}` : frame;
  }

  /** Stop playing. */
  pause() {
    clearTimeout(this.#playing);
    this.#playing = 0;
    this.#play.textContent = "Play";
    this.#play.setAttribute("aria-pressed", "false");
  }

  /**
   * @param {Place} place
   * @param {Numbers} numbers
   * @returns {number | undefined}
   */
  #value(place, { shape, data }) {
    const frame = place.frame ?? this.#frame;
    if (!this.#stage.element.hidden && shape.length >= 2) {
      const point = asPoint(place);
      const cell = point && this.#stage.cell(point);
      const [rows, columns] = shape.slice(-2);
      const start = shape.length === 3 ? frame * rows * columns : 0;
      return cell ? data[start + cell.row * columns + cell.column] : undefined;
    }
    if (shape.length === 2) return place.other === undefined ? undefined : data[frame * shape[1] + place.other];
    return data[frame];
  }

  /** Whether the numbers lie on the frames. */
  get #grids() {
    return !this.#stage.element.hidden && this.#numbers.shape.length >= 2;
  }

  #drawFrame() {
    if (!this.#look) return;
    this.#stage.draw(this.#frames[this.#frame]);
    const grid = this.#numbers.shape.length === 3 ? part(this.#numbers, this.#frame) : this.#numbers;
    this.#stage.cover(this.#grids ? grid : null, this.#scale, this.#look);
  }

  #next() {
    const at = this.#frame;
    const gap = 1000 * ((this.#timestamps[at + 1] ?? 0) - this.#timestamps[at]);
    const wait = gap > 0 ? Math.min(Math.max(gap, QUICKEST), SLOWEST) : SLOWEST;
    this.#play.textContent = "Pause";
    this.#play.setAttribute("aria-pressed", "true");
    this.#playing = window.setTimeout(() => {
      if (!this.element.isConnected) return;
      this.#setFrame((at + 1) % this.#frames.length);
      this.#next();
    }, wait);
  }
}
