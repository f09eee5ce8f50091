// @ts-check
/** The answer: labels, one map or two side by side, layers and heads, and what can be taken along. */

import { byId } from "./element.js";
import { firstChoice, isMatrix, mapNamed, targetWord } from "./maps.js";
import { Pane } from "./pane.js";
import { Predictions } from "./predictions.js";
import { isAbort, showProblem } from "./problem.js";
import { Take } from "./take.js";
import { Thumbnails } from "./thumbnails.js";

/** @typedef {import("./maps.js").Choice} Choice */
/** @typedef {import("./maps.js").Model} Model */
/** @typedef {import("./session.js").Session} Session */

const TARGETED = ["relevance", "cam"]; // shown for a class when the chosen map has none, in this order

export class Explorer {
  #result = byId("result", HTMLElement);
  #place = byId("panes", HTMLElement);
  #compare = byId("compare", HTMLButtonElement);
  #problem = byId("result-problem", HTMLElement);
  #predictions = new Predictions((index) => void this.#showLabel(index));
  #thumbnails;
  #take;
  /** @type {Pane[]} */
  #panes;
  /** @type {Pane} */
  #active;
  /** @type {Session | null} */
  #session = null;
  /** @type {ImageBitmap | null} */
  #media = null;
  #desk;

  /**
   * @param {object} of
   * @param {import("./api.js").Api} of.api
   * @param {import("./colors.js").Colors} of.colors
   * @param {import("./desk.js").Desk} of.desk
   * @param {(text: string) => void} of.announce
   */
  constructor({ api, colors, desk, announce }) {
    this.#desk = desk;
    this.#take = new Take({ api, desk, announce });
    this.#thumbnails = new Thumbnails({ colors, desk, chosen: (wanted) => void this.#active.choose(wanted) });
    /** @type {(at: number) => Pane} */
    const pane = (at) =>
      new Pane({
        name: at ? "Second map" : "Map",
        colors,
        desk,
        announce,
        changed: () => this.#changed(this.#panes[at]),
        peer: () => (this.#comparing ? this.#panes[1 - at] : null),
      });
    this.#panes = [pane(0), pane(1)];
    this.#active = this.#panes[0];
    for (const one of this.#panes) {
      for (const kind of ["focusin", "pointerdown"]) one.element.addEventListener(kind, () => this.#activate(one));
    }
    byId("predictions", HTMLElement).append(this.#predictions.element);
    byId("thumbnails", HTMLElement).append(this.#thumbnails.element);
    this.#place.append(this.#panes[0].element);
    this.#compare.addEventListener("click", () => void this.#toggle());
    desk.subscribe((_, names) => {
      if (!names.every((name) => ["pointed", "by"].includes(name))) this.renew();
    });
  }

  /** What was answered, in words. */
  get summary() {
    if (!this.#session) return "";
    const { label, score } = this.#session.prediction;
    const sure = this.#session.model.activation === "none" ? score.toPrecision(3) : `${(100 * score).toFixed(0)} %`;
    const proven = this.#session.prediction.verification ? " Attention verified." : "";
    return `${label}, ${sure}. Shown with the map ${this.#active.choice.map}.${proven}`;
  }

  /**
   * The maps to be made together with an answer of a model: those that will be shown.
   * @param {Model} model
   * @returns {string[]}
   */
  maps(model) {
    const known = this.#session?.model === model;
    const shown = known ? this.#shown.map(({ choice }) => choice.map) : [firstChoice(model).map];
    return [...new Set(shown)].filter((name) => !isMatrix(mapNamed(model, name)));
  }

  /** Show nothing. */
  clear() {
    this.#result.hidden = true;
    this.#session = null;
    if (this.#comparing) this.#close();
    this.#panes[0].close();
  }

  /**
   * Show an answer.
   * @param {Session} session
   * @param {AbortSignal} signal
   */
  async open(session, signal) {
    const media = session.input.kind === "text" ? null : await picture(session, signal);
    signal.throwIfAborted();
    const shown = this.#media;
    for (const pane of this.#panes) pane.close();
    this.#session = session;
    this.#media = media;
    this.#result.dataset.family = session.model.family;
    this.#desk.set({ pointed: null, pinned: null, frame: 0 });
    showProblem(this.#problem, null);
    await Promise.all(this.#shown.map((pane) => pane.open(session, this.#media)));
    this.#result.hidden = false; // not before: what lay under the pointer would be pointed at
    requestAnimationFrame(() => shown?.close()); // what still waits for this frame may draw it
  }

  /** Say anew where things are. */
  renew() {
    if (this.#session) this.#take.show(this.#session, this.#active.choice, this.#active.slice);
  }

  get #comparing() {
    return this.#panes[1].element.isConnected;
  }

  get #shown() {
    return this.#comparing ? this.#panes : this.#panes.slice(0, 1);
  }

  /** @param {Pane} pane */
  #activate(pane) {
    if (this.#active === pane || !this.#session) return;
    this.#active = pane;
    this.#changed(pane);
  }

  /**
   * Show what is chosen around the panes.
   * @param {Pane} pane
   */
  #changed(pane) {
    for (const one of this.#panes) one.element.toggleAttribute("data-active", one === this.#active);
    if (pane !== this.#active || !this.#session) return;
    const { choice } = pane;
    const { model, prediction } = this.#session;
    const choosable = model.maps.some(({ options }) => options.includes("target"));
    const isOfLabel = mapNamed(model, choice.map).options.includes("target");
    const shown = prediction.top.find(({ index }) => targetWord(model.labels, index) === choice.target);
    const index = choice.target === null ? prediction.top[0].index : (shown?.index ?? null);
    this.#predictions.show(this.#session, isOfLabel ? index : null, choosable);
    this.renew();
    this.#thumbnails.show(this.#session, choice).catch((error) => {
      if (!isAbort(error)) showProblem(this.#problem, error);
    });
  }

  /**
   * Show the map for a label: the chosen one where it has classes, else one that has.
   * @param {number} index
   */
  async #showLabel(index) {
    const { model, prediction } = /** @type {Session} */ (this.#session);
    const { choice } = this.#active;
    const takes = (/** @type {string} */ name) => mapNamed(model, name).options.includes("target");
    const target = index === prediction.top[0].index ? null : targetWord(model.labels, index);
    if (takes(choice.map)) return this.#active.choose({ target });
    const able = model.maps.map(({ name }) => name).filter(takes);
    const map = TARGETED.find((name) => able.includes(name)) ?? able[0];
    return this.#active.choose({ map, target });
  }

  async #toggle() {
    if (this.#comparing) {
      this.#close();
      return;
    }
    const [first, second] = this.#panes;
    const session = /** @type {Session} */ (this.#session);
    this.#place.append(second.element);
    this.#place.toggleAttribute("data-two", true);
    this.#compare.setAttribute("aria-pressed", "true");
    this.#active = second;
    await second.open(session, this.#media);
    await second.choose(other(first.choice, session));
  }

  #close() {
    this.#panes[1].element.remove();
    this.#panes[1].close();
    this.#place.removeAttribute("data-two");
    this.#compare.setAttribute("aria-pressed", "false");
    this.#active = this.#panes[0];
    this.#active.draw();
    this.#changed(this.#active);
  }
}

/**
 * What is worth comparing with a choice: the same map for the next class, else the next map of its kind.
 * @param {Choice} choice
 * @param {Session} session
 * @returns {Partial<Choice>}
 */
function other(choice, { model, prediction }) {
  const map = mapNamed(model, choice.map);
  const words = prediction.top.map(({ index }) => targetWord(model.labels, index));
  const rival = words.find((word) => word !== (choice.target ?? words[0]));
  if (map.options.includes("target") && rival) return { ...choice, target: rival };
  const like = model.maps.find(({ name, kind }) => name !== map.name && kind === map.kind);
  return { ...choice, map: (like ?? model.maps.find(({ name }) => name !== map.name) ?? map).name };
}

/**
 * The picture, or the sampled frames, as the server's decoder read them: the browser might read another
 * frame, turn a photo otherwise, or know no such file.
 * @param {Session} session
 * @param {AbortSignal} signal
 * @returns {Promise<ImageBitmap>}
 */
async function picture(session, signal) {
  return createImageBitmap(await (await session.fetch("input.webp", signal)).blob());
}
