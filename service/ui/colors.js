// @ts-check
/** Colour maps, as the server has them, and what can be read on them. */

import { element } from "./element.js";

/** @typedef {import("./scale.js").Scale} Scale */
/** @typedef {"light" | "dark"} Theme */

const INKS = { light: [31, 35, 40], dark: [236, 239, 244] }; // as text is in the drawings
const READABLE = 4.5; // WCAG 2.2, AA

export class Colors {
  #document;
  /** @type {Set<string>} ramps that the page has classes for */
  #classes = new Set();
  /** @type {Map<string, Uint8Array>} */
  #tables = new Map();

  /**
   * @param {object} document as the server gives it
   * @param {string} document.default
   * @param {string} document.diverging
   * @param {string[]} document.scales
   * @param {Record<string, string>} document.usual
   * @param {Record<string, string>} document.tables
   * @param {Record<Theme, Record<string, string>>} document.ramps
   */
  constructor(document) {
    this.#document = document;
  }

  /** Names of the colour maps. */
  get names() {
    return Object.keys(this.#document.tables);
  }

  /** Names of the scales. */
  get scales() {
    return this.#document.scales;
  }

  /**
   * The scale that suits maps of a kind.
   * @param {string} kind
   * @returns {string}
   */
  usualScale(kind) {
    return this.#document.usual[kind] ?? "peak";
  }

  /**
   * The colour map for a scale where none was chosen: one of two sides where the scale has two.
   * @param {Scale} scale
   * @param {string} chosen
   * @returns {string}
   */
  fitting(scale, chosen) {
    return chosen || (scale.neutral ? this.#document.diverging : this.#document.default);
  }

  /**
   * A colour map for pictures, [256 * 3].
   * @param {string} name
   * @returns {Uint8Array}
   */
  table(name) {
    return this.#bytes(`table ${name}`, this.#document.tables[name]);
  }

  /**
   * A colour map for the background of text, [256 * 3]: 0 is the page itself.
   * @param {string} name
   * @param {Theme} theme
   * @returns {Uint8Array}
   */
  ramp(name, theme) {
    return this.#bytes(`${theme} ${name}`, this.#document.ramps[theme][name]);
  }

  /**
   * The class in which l0 to l255 are the colours of a ramp, each with a colour for text that can be read on it.
   * @param {string} name
   * @param {Theme} theme
   * @returns {string}
   */
  rampClass(name, theme) {
    const given = `ramp-${theme}-${name}`;
    if (this.#classes.has(given)) return given;
    this.#classes.add(given);
    const ramp = this.ramp(name, theme);
    const rules = [];
    for (let at = 0; at < 256; at += 1) {
      const back = [...ramp.subarray(3 * at, 3 * at + 3)];
      rules.push(`.${given} .l${at}{background-color:rgb(${back});color:rgb(${ink(back, INKS[theme])})}`);
    }
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(rules.join(""));
    document.adoptedStyleSheets.push(sheet);
    return given;
  }

  /**
   * @param {string} key
   * @param {string} encoded
   * @returns {Uint8Array}
   */
  #bytes(key, encoded) {
    let bytes = this.#tables.get(key);
    if (!bytes) {
      bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
      this.#tables.set(key, bytes);
    }
    return bytes;
  }
}

/**
 * Numbers as a picture of as many pixels.
 * @param {ArrayLike<number>} values
 * @param {number} rows
 * @param {number} columns
 * @param {Uint8Array} table
 * @param {Scale} scale
 * @param {HTMLCanvasElement} [canvas] to draw on instead of a new one
 * @returns {HTMLCanvasElement}
 */
export function pixels(values, rows, columns, table, scale, canvas = element("canvas")) {
  const image = new ImageData(columns, rows);
  for (let at = 0; at < values.length; at += 1) {
    const row = 3 * scale.level(values[at]);
    image.data[4 * at] = table[row];
    image.data[4 * at + 1] = table[row + 1];
    image.data[4 * at + 2] = table[row + 2];
    image.data[4 * at + 3] = 255;
  }
  canvas.width = columns;
  canvas.height = rows;
  canvas.getContext("2d")?.putImageData(image, 0, 0);
  return canvas;
}

/**
 * The preferred colour where it can be read on the background, else black or white.
 * @param {number[]} back
 * @param {number[]} preferred
 * @returns {number[]}
 */
function ink(back, preferred) {
  if (contrast(back, preferred) >= READABLE) return preferred;
  const [black, white] = [[0, 0, 0], [255, 255, 255]];
  return contrast(back, black) > contrast(back, white) ? black : white;
}

/**
 * @param {number[]} one
 * @param {number[]} other
 * @returns {number} from 1 to 21
 */
function contrast(one, other) {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

/**
 * @param {number[]} color
 * @returns {number} relative luminance, from 0 to 1
 */
function luminance(color) {
  const [red, green, blue] = color.map((byte) => {
    const share = byte / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
