// @ts-check
/** One input, the model's answer to it, and the numbers of its maps. */

import { Flight } from "./flight.js";
import { Problem } from "./problem.js";

/** @typedef {import("./api.js").Api} Api */
/** @typedef {import("./maps.js").Model} Model */
/** @typedef {import("./npy.js").Numbers} Numbers */

/**
 * @typedef {object} TextInput
 * @property {"text"} kind
 * @property {string} text
 * @property {string | null} pair
 */

/**
 * @typedef {object} FileInput
 * @property {"file"} kind
 * @property {Blob} data
 * @property {string} type the media type, empty where the browser knows none
 * @property {string} name
 * @property {string | null} address where the server has it, if it is an example
 */

/** @typedef {TextInput | FileInput} Input */
/** @typedef {{label: string, index: number, score: number}} Label */

/**
 * @typedef {object} Proof what one layer's attention is, beside the explicit softmax
 * @property {string} layer
 * @property {number} row_sum_error
 * @property {number} output_error
 * @property {number} tolerance
 * @property {string} precision
 */

/**
 * @typedef {object} Prediction
 * @property {string} label
 * @property {number} score
 * @property {Label[]} top
 * @property {any} input what was read, as the API says it
 * @property {{name: string, affine?: number[][], links: Record<string, string>}[]} maps
 * @property {Proof | null} [verification]
 */

/** @typedef {{id: string, predictions: Prediction[], timing: Record<string, number>}} Answer */

export const LISTED = 8; // labels
const CACHE_BYTES = 96 * 1024 ** 2;

export class Session {
  /** @type {Map<string, Numbers>} the least recently used first */
  #numbers = new Map();
  #bytes = 0;
  /** @type {Map<string, Flight<Numbers>>} numbers on their way */
  #flights = new Map();
  /** @type {Promise<Answer> | null} */
  #renewing = null;
  #maps;
  #api;
  #renewed;

  /**
   * An input that was answered.
   * @param {object} of
   * @param {Api} of.api
   * @param {Model} of.model
   * @param {Input} of.input
   * @param {string[]} of.maps those that were asked for with it
   * @param {boolean} of.verify whether a proof was asked for
   * @param {Answer} of.answer
   * @param {() => void} of.renewed is told when the server has forgotten the answer and gave it again
   */
  constructor({ api, model, input, maps, verify, answer, renewed }) {
    this.model = model;
    this.input = input;
    this.verify = verify;
    this.answer = answer;
    this.#api = api;
    this.#maps = maps;
    this.#renewed = renewed;
  }

  /**
   * Ask a model; throws a Problem.
   * @param {Api} api
   * @param {Model} model
   * @param {Input} input
   * @param {string[]} maps to be made at once
   * @param {boolean} verify
   * @param {AbortSignal} [signal]
   * @returns {Promise<Answer>}
   */
  static ask(api, model, input, maps, verify, signal) {
    return api.json(predictPath(model, input, { maps: maps.join(","), verify: String(verify) }), {
      method: "POST",
      headers: { "content-type": contentType(input) },
      body: input.kind === "file" ? input.data : jsonBody(input, { top_k: LISTED, maps, verify }),
      signal,
    });
  }

  /** @returns {Prediction} */
  get prediction() {
    return this.answer.predictions[0];
  }

  /**
   * Where something of this prediction is.
   * @param {string} rest such as maps/cam.png?target=7
   * @returns {string}
   */
  path(rest) {
    return `/v1/predictions/${this.answer.id}/0/${rest}`;
  }

  /**
   * Something of this prediction; asks for the prediction again where the server no longer keeps it.
   * @param {string} rest
   * @param {AbortSignal} [signal]
   * @returns {Promise<Response>}
   */
  async fetch(rest, signal) {
    const answered = this.answer;
    try {
      return await this.#api.request(this.path(rest), { signal });
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 410) throw error;
      if (answered === this.answer) await this.#renew();
      return this.#api.request(this.path(rest), { signal });
    }
  }

  /**
   * Whether numbers were fetched already, or are on their way.
   * @param {string} rest
   * @returns {boolean}
   */
  has(rest) {
    return this.#numbers.has(rest) || this.#flights.has(rest);
  }

  /**
   * Numbers of a map, fetched once for all who ask.
   * @param {string} rest such as maps/cls.npy?layer=all
   * @param {(buffer: ArrayBuffer) => Numbers} parse
   * @param {AbortSignal} [signal]
   * @returns {Promise<Numbers>}
   */
  async numbers(rest, parse, signal) {
    signal?.throwIfAborted();
    const known = this.#numbers.get(rest);
    if (known) {
      this.#numbers.delete(rest);
      this.#numbers.set(rest, known);
      return known;
    }
    let flight = this.#flights.get(rest);
    if (!flight) {
      flight = new Flight(async (given) => parse(await (await this.fetch(rest, given)).arrayBuffer()));
      this.#flights.set(rest, flight);
      const ended = () => {
        if (this.#flights.get(rest) === flight) this.#flights.delete(rest);
      };
      flight.result.then((found) => this.#keep(rest, found), () => {}).finally(ended);
      flight.signal.addEventListener("abort", ended);
    }
    return flight.join(signal);
  }

  /**
   * @param {string} rest
   * @param {Numbers} found
   */
  #keep(rest, found) {
    if (this.#numbers.has(rest)) return;
    this.#numbers.set(rest, found);
    this.#bytes += found.data.byteLength;
    for (const [oldest, numbers] of this.#numbers) {
      if (this.#bytes <= CACHE_BYTES || oldest === rest) break;
      this.#numbers.delete(oldest);
      this.#bytes -= numbers.data.byteLength;
    }
  }

  /** Ask again, once for all who miss it. */
  async #renew() {
    this.#renewing ??= Session.ask(this.#api, this.model, this.input, this.#maps, this.verify).finally(() => {
      this.#renewing = null;
    });
    const answer = await this.#renewing;
    if (answer === this.answer) return;
    this.answer = answer;
    this.#renewed();
  }
}

/**
 * The path of a model's call.
 * @param {Model} model
 * @param {string} [rest]
 * @returns {string}
 */
export function modelPath({ name, version }, rest = "") {
  return `/v1/models/${encodeURIComponent(name)}/versions/${encodeURIComponent(version)}${rest}`;
}

/**
 * Where an input is sent: options stand in the query beside a file, in the body beside a text.
 * @param {Model} model
 * @param {Input} input
 * @param {Record<string, string>} options
 * @returns {string}
 */
export function predictPath(model, input, options) {
  const words = input.kind === "file" ? `?${new URLSearchParams({ ...options, top_k: String(LISTED) })}` : "";
  return modelPath(model, `/predict${words}`);
}

/**
 * @param {Input} input
 * @returns {string}
 */
export function contentType(input) {
  return input.kind === "text" ? "application/json" : input.type || "application/octet-stream";
}

/**
 * @param {TextInput} input
 * @param {Record<string, unknown>} options
 * @returns {string}
 */
export function jsonBody({ text, pair }, options) {
  return JSON.stringify({ text, ...(pair === null ? {} : { text_pair: pair }), ...options });
}
