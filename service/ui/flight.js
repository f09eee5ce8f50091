// @ts-check
/** One request that several may wait for; when nobody does any more, it is given up. */

// A pointer leaves one token and is on the next at once, whose row is often in the same block: milliseconds.
const LINGER = 100;

/** @template Result */
export class Flight {
  #controller = new AbortController();
  #waiting = 0;
  /** @type {Promise<Result>} */
  result;

  /** @param {(signal: AbortSignal) => Promise<Result>} start is told when to give up */
  constructor(start) {
    this.result = start(this.#controller.signal);
  }

  /** Says when it was given up. */
  get signal() {
    return this.#controller.signal;
  }

  /**
   * Wait for it.
   * @param {AbortSignal} [signal]
   * @returns {Promise<Result>} rejects with an AbortError where the signal says so
   */
  join(signal) {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      this.#waiting += 1;
      const leave = () => {
        reject(signal?.reason);
        this.#waiting -= 1;
        setTimeout(() => {
          if (!this.#waiting) this.#controller.abort();
        }, LINGER);
      };
      signal?.addEventListener("abort", leave, { once: true });
      this.result.then(resolve, reject).finally(() => signal?.removeEventListener("abort", leave));
    });
  }
}
