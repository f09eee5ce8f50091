// @ts-check
/** Arrays as numpy writes them, version 1, little-endian float32 in C order. */

/**
 * @typedef {object} Numbers
 * @property {number[]} shape
 * @property {Float32Array} data in C order
 */

const MAGIC = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];
const HEADER = 10; // bytes before the header's text

/**
 * Read an array; throws where the bytes are no such thing, or fewer than the shape says.
 * @param {ArrayBuffer} buffer
 * @returns {Numbers}
 */
export function parseNpy(buffer) {
  const bytes = new Uint8Array(buffer);
  if (bytes.length < HEADER || MAGIC.some((byte, at) => bytes[at] !== byte) || bytes[6] !== 1) {
    throw new Error("these are no numbers in numpy's format, version 1");
  }
  const start = HEADER + new DataView(buffer).getUint16(8, true);
  const header = new TextDecoder("latin1").decode(bytes.subarray(HEADER, start));
  const shape = /'shape': \(([\d, ]*)\)/.exec(header);
  if (!shape || !header.includes("'descr': '<f4'") || !header.includes("'fortran_order': False")) {
    throw new Error(`numbers of another kind than float32 in C order: ${header.trim()}`);
  }
  const sizes = shape[1].split(",").filter((size) => size.trim()).map(Number);
  const count = sizes.reduce((product, size) => product * size, 1);
  if (buffer.byteLength - start !== 4 * count) throw new Error("the numbers are cut off");
  // numpy pads the header to 64 bytes, so that the numbers can be used where they lie.
  return { shape: sizes, data: new Float32Array(buffer, start, count) };
}

/**
 * The part of an array at an index of its first axis; shares its memory.
 * @param {Numbers} numbers
 * @param {number} index
 * @returns {Numbers}
 */
export function part({ shape, data }, index) {
  const rest = shape.slice(1);
  const size = rest.reduce((product, one) => product * one, 1);
  return { shape: rest, data: data.subarray(index * size, (index + 1) * size) };
}

/**
 * @param {Numbers[]} all of one shape
 * @returns {Numbers}
 */
export function mean(all) {
  const data = new Float32Array(all[0].data.length);
  for (const one of all) for (let at = 0; at < data.length; at += 1) data[at] += one.data[at] / all.length;
  return { shape: all[0].shape, data };
}
