// @ts-check
/** What all panes share: how numbers become colours, the place that is pointed at, and the frame. */

import { Store } from "./store.js";
import { samePlace } from "./view.js";

/** @typedef {import("./view.js").Place} Place */

/**
 * @typedef {object} DeskState
 * @property {string} colormap empty for what suits each scale
 * @property {string} scale empty for what suits each map
 * @property {number} alpha
 * @property {boolean} smooth
 * @property {"light" | "dark"} theme
 * @property {boolean} oneScale whether two panes with one map have one scale
 * @property {Place | null} pointed
 * @property {Place | null} pinned
 * @property {string} by what pointed last: pointer or keyboard
 * @property {number} frame
 */

/** @extends {Store<DeskState>} */
export class Desk extends Store {
  /** The place that is looked at: what is pointed at, else what is held. */
  get place() {
    return this.state.pointed ?? this.state.pinned;
  }

  /**
   * @param {Place | null} place
   * @param {string} by
   */
  point(place, by) {
    if (samePlace(place, this.state.pointed)) return;
    this.set({ pointed: place, by });
  }

  /**
   * Hold a place, or let it go where it is held.
   * @param {Place} place
   */
  pin(place) {
    this.set({ pinned: samePlace(place, this.state.pinned) ? null : place });
  }

  /** Let go of everything. */
  release() {
    this.set({ pinned: null, pointed: null });
  }
}
