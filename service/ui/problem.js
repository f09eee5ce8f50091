// @ts-check
/** What went wrong, as the server says it (RFC 9457), and how it is shown. */

import { element } from "./element.js";

export class Problem extends Error {
  /**
   * @param {{title?: string, detail?: string, status?: number, field?: string, limit?: string | number}} document
   */
  constructor({ title = "Something went wrong", detail = "", status = 0, field, limit }) {
    super(detail || title);
    this.name = "Problem";
    this.title = title;
    this.status = status;
    this.field = field;
    this.limit = limit;
  }

  /**
   * The problem of an answer that is none.
   * @param {Response} response
   * @returns {Promise<Problem>}
   */
  static async of(response) {
    const document = await response.json().catch(() => ({}));
    return new Problem({ title: response.statusText, ...document, status: response.status });
  }

  /**
   * Anything thrown, as a problem.
   * @param {unknown} error
   * @returns {Problem}
   */
  static from(error) {
    if (error instanceof Problem) return error;
    if (error instanceof TypeError && /fetch|network/i.test(error.message)) {
      return new Problem({ title: "No answer", detail: "The server cannot be reached." });
    }
    return new Problem({ detail: error instanceof Error ? error.message : String(error) });
  }
}

/**
 * Whether something was given up because nobody waits for it any more.
 * @param {unknown} error
 * @returns {boolean}
 */
export function isAbort(error) {
  return error instanceof DOMException && error.name === "AbortError";
}

/**
 * Show a problem in its place, or take away the one that is there.
 * @param {HTMLElement} place
 * @param {unknown} error null for none
 */
export function showProblem(place, error) {
  if (error === null) {
    place.replaceChildren();
    return;
  }
  const { title, message, field, limit } = Problem.from(error);
  const facts = [];
  if (field !== undefined) facts.push(element("dt", {}, "field"), element("dd", {}, field));
  if (limit !== undefined) facts.push(element("dt", {}, "limit"), element("dd", {}, String(limit)));
  place.replaceChildren(
    element(
      "div",
      { class: "problem", role: "alert" },
      element("strong", {}, title),
      element("p", {}, message),
      facts.length ? element("dl", {}, ...facts) : null,
    ),
  );
}
