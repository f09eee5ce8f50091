// @ts-check
/** What is left of a map's numbers, by the server's own rules (`special`, `words`, `mass` and `top`). */

/** @typedef {import("./layout.js").Layout} Layout */
/** @typedef {import("./maps.js").Choice} Choice */
/** @typedef {import("./npy.js").Numbers} Numbers */

/**
 * @typedef {object} Refined
 * @property {Numbers} numbers
 * @property {string[]} notes what was left out, in words
 */

/**
 * A map as it is shown.
 * @param {Numbers} numbers of one layer and head
 * @param {Choice} choice
 * @param {string} kind of the map; each row of a matrix of frames is cut for itself
 * @param {Layout | null} layout where the numbers are of a text's tokens
 * @returns {Refined}
 */
export function refined(numbers, { mass, top }, kind, layout) {
  const notes = [];
  let { shape, data } = numbers;
  if (layout) {
    if (layout.hidden.length) notes.push(`special tokens held ${percent(share(data, layout.hidden))}`);
    data = Float32Array.from(layout.of, (tokens) => tokens.reduce((sum, token) => sum + data[token], 0));
    shape = [data.length];
  }
  if (mass === null && top === null) return { numbers: { shape, data }, notes };
  const width = kind === "frame_matrix" ? shape[1] : data.length;
  const cut = new Float32Array(data.length);
  for (let start = 0; start < data.length; start += width) {
    const row = data.subarray(start, start + width);
    const massive = mass === null ? row : massCut(row, mass);
    cut.set(top === null ? massive : topCut(massive, top), start);
  }
  const total = positive(data);
  const kept = cut.reduce((count, value) => count + (value ? 1 : 0), 0);
  notes.push(`${kept} of ${data.length} kept, with ${percent(total ? positive(cut) / total : 0)}`);
  return { numbers: { shape, data: cut }, notes };
}

/**
 * The largest values until they hold this share of the mass; what is below 0 has none.
 * @param {Float32Array} row
 * @param {number} mass
 * @returns {Float32Array}
 */
function massCut(row, mass) {
  const order = descending(row);
  const needed = mass * order.reduce((sum, at) => sum + Math.max(row[at], 0), 0);
  const cut = new Float32Array(row.length);
  let held = 0;
  for (const at of order) {
    if (held >= needed) break;
    cut[at] = Math.max(row[at], 0);
    held += cut[at];
  }
  return cut;
}

/**
 * So many of the largest values, as they are.
 * @param {Float32Array} row
 * @param {number} count
 * @returns {Float32Array}
 */
function topCut(row, count) {
  const cut = new Float32Array(row.length);
  for (const at of descending(row).slice(0, count)) cut[at] = row[at];
  return cut;
}

/**
 * Places of the largest values first; of equal ones the first.
 * @param {Float32Array} row
 * @returns {number[]}
 */
function descending(row) {
  return [...row.keys()].sort((one, other) => row[other] - row[one]);
}

/** @param {Float32Array} data */
function positive(data) {
  return data.reduce((sum, value) => sum + Math.max(value, 0), 0);
}

/**
 * The share of the total that some tokens hold.
 * @param {Float32Array} data
 * @param {number[]} tokens
 * @returns {number}
 */
function share(data, tokens) {
  const total = data.reduce((sum, value) => sum + Math.abs(value), 0);
  return total ? tokens.reduce((sum, token) => sum + Math.abs(data[token]), 0) / total : 0;
}

/** @param {number} part */
function percent(part) {
  return `${(100 * part).toFixed(part < 0.0995 ? 1 : 0)} %`;
}
