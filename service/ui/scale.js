// @ts-check
/** Numbers to places on a colour map, by the server's own rules (`scale` of a drawing). */

const RELATIVE = ["uniform", "above"];
const PERCENTILES = [0.01, 0.99];

/**
 * @typedef {object} Scale
 * @property {string} name
 * @property {number} low the number of the first colour
 * @property {number} high the number of the last one
 * @property {[string, string]} ends both in words
 * @property {string} caption
 * @property {boolean} neutral whether the middle is what neither side has: 0 of signed numbers, the mean under
 *   uniform
 * @property {(value: number) => number} level the row of a colour table for a number, from 0 to 255
 */

/**
 * A scale for several arrays at once.
 * @param {ArrayLike<number>[]} arrays
 * @param {string} wanted its name; empty for what suits the map
 * @param {string} usual what suits its kind
 * @param {[number, number] | null} [fixed] the range of a map that has one of its own
 * @returns {Scale}
 */
export function scaled(arrays, wanted, usual, fixed = null) {
  const { lowest, highest, mean } = facts(arrays);
  const signed = lowest < 0 && highest > 0;
  const asked = wanted || (fixed ? "absolute" : signed ? "peak" : usual);
  const name = RELATIVE.includes(asked) && lowest < 0 ? "peak" : asked; // there is no share of less than nothing
  if (name === "mass") return made(name, 0, 1, byMass(arrays));
  if (RELATIVE.includes(name)) {
    const high = Math.max(2 * mean, highest);
    const low = name === "uniform" && mean ? (mean * mean) / high : mean;
    return made(name, low, high, byFactors(low, high));
  }
  const [low, high] = range(arrays, name, lowest, highest, fixed);
  return made(name, low, high, linearly(low, high));
}

/**
 * @param {string} name
 * @param {number} low
 * @param {number} high
 * @param {(value: number) => number} place from 0 to 1
 * @returns {Scale}
 */
function made(name, low, high, place) {
  const captions = { uniform: `uniform: ${written(Math.sqrt(low * high))}`, above: "above uniform" };
  return {
    name,
    low,
    high,
    ends: name === "mass" ? ["0 %", "100 %"] : [written(low), written(high)],
    caption: name in captions ? captions[/** @type {keyof captions} */ (name)] : name,
    neutral: name === "uniform" || (-low === high && high > 0),
    level: (value) => Math.round(255 * place(value)),
  };
}

/** @param {ArrayLike<number>[]} arrays */
function facts(arrays) {
  let [lowest, highest, sum, count] = [Infinity, -Infinity, 0, 0];
  for (const array of arrays) {
    for (let at = 0; at < array.length; at += 1) {
      const value = array[at];
      if (value < lowest) lowest = value;
      if (value > highest) highest = value;
      sum += value;
    }
    count += array.length;
  }
  return count ? { lowest, highest, mean: sum / count } : { lowest: 0, highest: 0, mean: 0 };
}

/**
 * The lowest and the highest number that a linear scale tells apart.
 * @param {ArrayLike<number>[]} arrays
 * @param {string} name
 * @param {number} lowest
 * @param {number} highest
 * @param {[number, number] | null} fixed
 * @returns {[number, number]}
 */
function range(arrays, name, lowest, highest, fixed) {
  const signed = lowest < 0 && highest > 0;
  const furthest = Math.max(-lowest, highest);
  if (name === "absolute") {
    if (fixed) return fixed;
    if (signed) return [-Math.max(1, furthest), Math.max(1, furthest)];
    return [Math.min(0, lowest), Math.max(1, highest)];
  }
  if (name === "peak") return signed ? [-furthest, furthest] : [Math.min(0, lowest), Math.max(0, highest)];
  if (name === "percentile") {
    const all = sorted(arrays);
    const at = (/** @type {number} */ share) => {
      const place = share * (all.length - 1);
      const below = Math.floor(place);
      return all[below] + (place - below) * (all[Math.min(below + 1, all.length - 1)] - all[below]);
    };
    return [at(PERCENTILES[0]), at(PERCENTILES[1])];
  }
  return [lowest, highest];
}

/**
 * The share of the total that lies in values no larger.
 * @param {ArrayLike<number>[]} arrays
 * @returns {(value: number) => number}
 */
function byMass(arrays) {
  const all = sorted(arrays).map((value) => Math.max(value, 0)).sort();
  const held = new Float64Array(all.length + 1);
  all.forEach((value, at) => (held[at + 1] = held[at] + value));
  const total = held[all.length] || 1;
  return (value) => {
    let [from, to] = [0, all.length]; // the first that is larger
    while (from < to) {
      const middle = (from + to) >> 1;
      if (all[middle] <= value) from = middle + 1;
      else to = middle;
    }
    return held[from] / total;
  };
}

/**
 * Equal steps for equal factors; 0 where there is no room.
 * @param {number} low
 * @param {number} high
 * @returns {(value: number) => number}
 */
function byFactors(low, high) {
  if (!(high > low && low > 0)) return () => 0;
  const whole = Math.log(high / low);
  return (value) => Math.log(Math.min(Math.max(value, low), high) / low) / whole;
}

/**
 * With no room between, 1 is what is above.
 * @param {number} low
 * @param {number} high
 * @returns {(value: number) => number}
 */
function linearly(low, high) {
  if (!(high > low)) return (value) => (value > high ? 1 : 0);
  return (value) => Math.min(Math.max((value - low) / (high - low), 0), 1);
}

/**
 * @param {ArrayLike<number>[]} arrays
 * @returns {Float64Array}
 */
function sorted(arrays) {
  const all = new Float64Array(arrays.reduce((sum, array) => sum + array.length, 0));
  let filled = 0;
  for (const array of arrays) {
    all.set(array, filled);
    filled += array.length;
  }
  return all.sort();
}

/**
 * A number for people: three digits that count.
 * @param {number} value
 * @returns {string}
 */
export function written(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1000 && size >= 0.0001) return String(Number(value.toPrecision(3)));
  return value.toExponential(1).replace("e-", "e−").replace("e+", "e");
}
