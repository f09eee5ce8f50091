// @ts-check
/** A few values that several parts of the page show, and who has to know when they change. */

/** @template {object} State */
export class Store {
  /** @type {Set<(state: Readonly<State>, changed: (keyof State)[]) => void>} */
  #listeners = new Set();
  /** @type {State} */
  #state;

  /** @param {State} state */
  constructor(state) {
    this.#state = { ...state };
  }

  /** @returns {Readonly<State>} */
  get state() {
    return this.#state;
  }

  /**
   * Take over new values; those who listen hear of those that differ.
   * @param {Partial<State>} values
   */
  set(values) {
    const names = /** @type {(keyof State)[]} */ (Object.keys(values));
    const changed = names.filter((name) => this.#state[name] !== values[name]);
    if (!changed.length) return;
    this.#state = { ...this.#state, ...values };
    for (const listener of [...this.#listeners]) listener(this.#state, changed);
  }

  /**
   * Hear of changes, until the function that is returned is called.
   * @param {(state: Readonly<State>, changed: (keyof State)[]) => void} listener
   * @returns {() => void}
   */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
