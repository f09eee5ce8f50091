// @ts-check
/** Which view shows an input of a family. */

import { BarsView } from "./bars-view.js";
import { ClipView } from "./clip-view.js";
import { ImageView } from "./image-view.js";
import { TextView } from "./text-view.js";

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
 * @property {(numbers: Numbers) => string} highest where the largest numbers are, in words
 * @property {(frame: number) => void} [showFrame]
 * @property {(values: ArrayLike<number> | null, caption: string) => void} [bars]
 */

/**
 * @param {object} of
 * @param {string} of.kind channels, or input
 * @param {Session} of.session
 * @param {Media} of.media
 * @param {import("./view.js").Listener} of.listener
 * @param {(frame: number) => void} of.setFrame
 * @returns {View}
 */
export function makeView({ kind, session, media, listener, setFrame }) {
  const { input, prediction } = session;
  if (kind === "channels") return new BarsView({ label: "Channels", listener });
  if (input.kind === "text") {
    const texts = input.pair === null ? [input.text] : [input.text, input.pair];
    return new TextView({ read: prediction.input, texts, label: "Tokens of the text", listener });
  }
  if (!media) throw new Error("there is no picture to draw on");
  const { view, timestamps } = prediction.input;
  if (session.model.family === "image") {
    return new ImageView({ view, image: media, label: `The picture, ${prediction.label}`, listener });
  }
  const frames = cut(media, timestamps.length);
  return new ClipView({ view, frames, timestamps, label: "A frame of the clip", listener, setFrame });
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
