// @ts-check
/** What every view of an input shares: places on it, how it is coloured, and who hears of what is pointed at. */

/**
 * @typedef {object} Place somewhere on an input; what is not said does not matter
 * @property {number} [token] index; the first of those that share one piece of text
 * @property {number} [x] in original pixels
 * @property {number} [y]
 * @property {number} [frame] of those that were sampled
 * @property {number} [other] the frame that is heard, in a matrix of frames
 * @property {number} [channel]
 */

/**
 * @typedef {object} Look how numbers become colours
 * @property {Uint8Array} table
 * @property {number} alpha
 * @property {boolean} smooth
 * @property {string} ramp the class in which text has these colours
 */

/**
 * @typedef {object} Listener
 * @property {(place: Place | null, by: "pointer" | "keyboard") => void} point
 * @property {(place: Place) => void} pin
 */

/**
 * Whether two places are the same token, point or frame.
 * @param {Place | null} one
 * @param {Place | null} other
 * @returns {boolean}
 */
export function samePlace(one, other) {
  if (one === null || other === null) return one === other;
  const names = /** @type {const} */ (["token", "x", "y", "frame", "other", "channel"]);
  return names.every((name) => one[name] === other[name]);
}
