// @ts-check
/** Which view shows an input, by its family and by what its map is of. */

import { BarsView } from "./bars-view.js";
import { ClipView } from "./clip-view.js";
import { ImageView } from "./image-view.js";
import { layoutOf } from "./layout.js";
import { TextView } from "./text-view.js";

/** @typedef {import("./layout.js").Layout} Layout */
/** @typedef {import("./maps.js").Choice} Choice */
/** @typedef {import("./npy.js").Numbers} Numbers */
/** @typedef {import("./scale.js").Scale} Scale */
/** @typedef {import("./session.js").Session} Session */
/** @typedef {import("./view.js").Look} Look */
/** @typedef {import("./view.js").Place} Place */
/** @typedef {ImageBitmap | null} Media the picture, or the sheet of a clip's frames; none of a text */

/**
 * @typedef {object} View
 * @property {HTMLElement} element
 * @property {boolean} [onText] whether it colours text
 * @property {(numbers: Numbers, scale: Scale, look: Look, kind: string) => void} show
 * @property {(numbers: Numbers) => ArrayLike<number>} scaled the numbers that make up the scale
 * @property {(pointed: Place | null, pinned: Place | null) => void} mark
 * @property {(place: Place, numbers: Numbers) => string} describe a place and its number in words
 * @property {(place: Place) => string} name a place in words
 * @property {(place: Place) => number[]} [tokens] those of the input that a place stands for, in a text
 * @property {(numbers: Numbers) => string} highest where the largest numbers are, in words
 * @property {(frame: number) => void} [showFrame]
 * @property {() => void} [pause]
 * @property {(values: ArrayLike<number> | null, caption: string) => void} [bars]
 */

/** The views of one input, each made when it is first shown. */
export class Views {
  /** @type {Map<Layout | string, View>} by what they show */
  #views = new Map();
  /** @type {Map<string, Layout>} */
  #layouts = new Map();
  /** @type {Session | null} */
  #session = null;
  /** @type {Media} */
  #media = null;
  #listener;

  /** @param {import("./view.js").Listener & {setFrame: (frame: number) => void}} listener */
  constructor(listener) {
    this.#listener = listener;
  }

  /**
   * Begin with another input.
   * @param {Session} session
   * @param {Media} media
   */
  open(session, media) {
    this.#session = session;
    this.#media = media;
    this.#views = new Map();
    this.#layouts = new Map();
  }

  /**
   * What the numbers of a text are shown of; null of other inputs.
   * @param {Choice} choice
   * @param {AbortSignal} signal
   * @returns {Promise<Layout | null>}
   */
  async layout(choice, signal) {
    const session = /** @type {Session} */ (this.#session);
    if (session.model.family !== "text") return null;
    const key = JSON.stringify([choice.special, choice.words]);
    const layouts = this.#layouts; // those of this input
    const layout = layouts.get(key) ?? (await layoutOf(session, choice, signal));
    layouts.set(key, layout);
    return layout;
  }

  /**
   * @param {string} kind of a map
   * @param {Layout | null} layout of a text
   * @returns {View}
   */
  of(kind, layout) {
    const key = kind === "channels" ? kind : (layout ?? "");
    const view = this.#views.get(key) ?? this.#made(kind, layout);
    this.#views.set(key, view);
    return view;
  }

  /**
   * @param {string} kind
   * @param {Layout | null} layout
   * @returns {View}
   */
  #made(kind, layout) {
    const { input, prediction, model } = /** @type {Session} */ (this.#session);
    const listener = this.#listener;
    if (kind === "channels") return new BarsView({ label: "Channels", listener });
    if (input.kind === "text" && layout) {
      const texts = input.pair === null ? [input.text] : [input.text, input.pair];
      return new TextView({ layout, texts, label: "Tokens of the text", listener });
    }
    const media = this.#media;
    if (!media) throw new Error("there is no picture to draw on");
    const { view, timestamps } = prediction.input;
    if (model.family === "image") {
      return new ImageView({ view, image: media, label: `The picture, ${prediction.label}`, listener });
    }
    const frames = cut(media, timestamps.length);
    const { setFrame } = listener;
    return new ClipView({ view, frames, timestamps, label: "A frame of the clip", listener, setFrame });
  }
}

/**
 * The frames on a sheet, which stand in rows of ceil(sqrt(count)).
 * @param {ImageBitmap} sheet
 * @param {number} count
 * @returns {import("./stage.js").Picture[]}
 */
function cut(sheet, count) {
  const columns = Math.ceil(Math.sqrt(count));
  const width = sheet.width / columns;
  const height = sheet.height / Math.ceil(count / columns);
  return Array.from({ length: count }, (_, at) => ({
    image: sheet,
    left: (at % columns) * width,
    top: Math.floor(at / columns) * height,
    width,
    height,
  }));
}
