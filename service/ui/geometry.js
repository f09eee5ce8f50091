// @ts-check
/** Where a map's cells lie on the original picture. */

/**
 * @typedef {object} Seen how the model saw a picture or a frame, as the answer says it
 * @property {number} width of the original, in pixels
 * @property {number} height
 * @property {[number, number, number, number]} seen left, top, right, bottom in original pixels
 */

/** @typedef {{x: number, y: number}} Point in original pixels */
/** @typedef {{row: number, column: number}} Cell */

/**
 * The 2x3 matrix from original pixel (x, y, 1) to (column, row) in a map of rows x columns: the `affine` of
 * an answer's map, for any resolution.
 * @param {Seen} view
 * @param {number} rows
 * @param {number} columns
 * @returns {[[number, number, number], [number, number, number]]}
 */
export function affine({ seen: [left, top, right, bottom] }, rows, columns) {
  const across = columns / (right - left);
  const down = rows / (bottom - top);
  return [[across, 0, -left * across], [0, down, -top * down]];
}

/**
 * The cell over a point; null where the model did not look.
 * @param {Seen} view
 * @param {Point} point
 * @param {number} rows
 * @param {number} columns
 * @returns {Cell | null}
 */
export function cellAt(view, { x, y }, rows, columns) {
  const [across, down] = affine(view, rows, columns);
  const column = Math.floor(across[0] * x + across[2]);
  const row = Math.floor(down[1] * y + down[2]);
  const within = row >= 0 && row < rows && column >= 0 && column < columns;
  const onPicture = x >= 0 && y >= 0 && x < view.width && y < view.height;
  return within && onPicture ? { row, column } : null;
}

/**
 * The original's point in the middle of a cell.
 * @param {Seen} view
 * @param {Cell} cell
 * @param {number} rows
 * @param {number} columns
 * @returns {Point}
 */
export function middle({ seen: [left, top, right, bottom] }, { row, column }, rows, columns) {
  return {
    x: left + ((column + 0.5) * (right - left)) / columns,
    y: top + ((row + 0.5) * (bottom - top)) / rows,
  };
}

/**
 * The part of the picture that the model saw: left, top, right, bottom.
 * @param {Seen} view
 * @returns {[number, number, number, number]}
 */
export function seenPart({ width, height, seen: [left, top, right, bottom] }) {
  return [Math.max(0, left), Math.max(0, top), Math.min(width, right), Math.min(height, bottom)];
}
