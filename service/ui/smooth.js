// @ts-check
/** Grids between the centres of their cells. */

const LONGEST = 256; // values along a side

/** @typedef {import("./npy.js").Numbers} Numbers */

/**
 * A grid [rows, columns] with more values, linear between the centres of cells and constant beyond the
 * outermost ones, as the server's smooth drawings are.
 * @param {Numbers} grid
 * @returns {Numbers}
 */
export function smoothed({ shape: [rows, columns], data }) {
  const factor = Math.max(1, Math.floor(LONGEST / Math.max(rows, columns)));
  const down = between(rows, factor);
  const across = between(columns, factor);
  const made = new Float32Array(down.length * across.length);
  let at = 0;
  for (const [above, below, lower] of down) {
    for (const [left, right, further] of across) {
      const top = data[above * columns + left] * (1 - further) + data[above * columns + right] * further;
      const bottom = data[below * columns + left] * (1 - further) + data[below * columns + right] * further;
      made[at] = top * (1 - lower) + bottom * lower;
      at += 1;
    }
  }
  return { shape: [down.length, across.length], data: made };
}

/**
 * For each place: the cells around it and the share of the second.
 * @param {number} cells
 * @param {number} factor
 * @returns {[number, number, number][]}
 */
function between(cells, factor) {
  return Array.from({ length: cells * factor }, (_, at) => {
    const place = Math.min(Math.max((at + 0.5) / factor - 0.5, 0), cells - 1);
    const first = Math.floor(place);
    return [first, Math.min(first + 1, cells - 1), place - first];
  });
}
