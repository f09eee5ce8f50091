// @ts-check
/** The server's HTTP API: keys, waiting while it is busy, problems as errors. */

import { parseNpy } from "./npy.js";
import { pause } from "./pause.js";
import { isAbort, Problem } from "./problem.js";

const ATTEMPTS = 6;
const LONGEST_WAIT = 30; // seconds

/** @typedef {import("./npy.js").Numbers} Numbers */

export class Api {
  #key = ""; // in memory alone: it ends with the page
  /** @type {Promise<string | null> | null} */
  #asking = null;
  #askKey;
  #waiting;

  /**
   * @param {object} how
   * @param {(reason: string) => Promise<string | null>} how.askKey asks for a key; null where there is none
   * @param {(seconds: number) => void} how.waiting is told that the server is busy, and how long we wait
   */
  constructor({ askKey, waiting }) {
    this.#askKey = askKey;
    this.#waiting = waiting;
  }

  /** Whether a key is sent with what is asked. */
  get hasKey() {
    return this.#key !== "";
  }

  /**
   * Ask; throws a Problem, or an AbortError where the signal says so.
   * @param {string} path
   * @param {RequestInit} [init]
   * @returns {Promise<Response>}
   */
  async request(path, init = {}) {
    for (let attempt = 1; ; attempt += 1) {
      const response = await this.#send(path, init);
      if (response.ok) return response;
      const problem = await Problem.of(response);
      if (response.status === 401 && (await this.#newKey(problem.message))) continue;
      const after = Number(response.headers.get("retry-after"));
      if (response.status !== 503 || !after || attempt === ATTEMPTS) throw problem;
      const seconds = Math.min(after, LONGEST_WAIT);
      this.#waiting(seconds);
      await pause(1000 * seconds, init.signal);
    }
  }

  /**
   * @param {string} path
   * @param {RequestInit} [init]
   * @returns {Promise<any>}
   */
  async json(path, init) {
    return (await this.request(path, init)).json();
  }

  /**
   * @param {string} path
   * @param {AbortSignal} [signal]
   * @returns {Promise<Numbers>}
   */
  async numbers(path, signal) {
    return parseNpy(await (await this.request(path, { signal })).arrayBuffer());
  }

  /**
   * @param {string} path
   * @param {RequestInit} init
   * @returns {Promise<Response>}
   */
  async #send(path, init) {
    const headers = new Headers(init.headers);
    if (this.#key) headers.set("authorization", `Bearer ${this.#key}`);
    try {
      return await fetch(path, { ...init, headers });
    } catch (error) {
      throw isAbort(error) ? error : Problem.from(error);
    }
  }

  /**
   * Ask for a key once for all who need it.
   * @param {string} reason
   * @returns {Promise<boolean>} whether there is another one
   */
  async #newKey(reason) {
    this.#asking ??= this.#askKey(reason).finally(() => {
      this.#asking = null;
    });
    const key = await this.#asking;
    if (!key) return false;
    this.#key = key;
    return true;
  }
}
