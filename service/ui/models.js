// @ts-check
/** The models of the server, and the one that is asked. */

import { element } from "./element.js";
import { Problem } from "./problem.js";

/** @typedef {import("./api.js").Api} Api */
/** @typedef {import("./maps.js").Model} Model */
/** @typedef {{name: string, version: string, state: string, reason?: string, family?: string, description?: string}} Summary */

export class Models {
  #api;
  #select;
  #chosen;
  /** @type {Summary[]} */
  #all = [];
  /** @type {Model | null} */
  #model = null;
  #choosing = Promise.resolve();

  /**
   * @param {Api} api
   * @param {HTMLSelectElement} select
   * @param {(model: Model) => void} chosen
   */
  constructor(api, select, chosen) {
    this.#api = api;
    this.#select = select;
    this.#chosen = chosen;
    select.addEventListener("change", () => {
      this.#choosing = this.#choose(this.#all[Number(select.value)]);
    });
  }

  /** Resolves when the model that was selected is the one that is asked. */
  get settled() {
    return this.#choosing;
  }

  /** The one that is asked; throws a Problem where there is none. */
  get model() {
    if (!this.#model) throw new Problem({ title: "No model", detail: "The server has no model that is ready." });
    return this.#model;
  }

  /**
   * Offer what is served, and choose the first that is ready; throws a Problem where there is none.
   * @param {Summary[]} served
   */
  async load(served) {
    this.#all = served;
    const names = this.#all.map(({ name }) => name);
    const options = this.#all.map((model, at) => {
      const several = names.indexOf(model.name) !== names.lastIndexOf(model.name);
      const name = several ? `${model.name}, version ${model.version}` : model.name;
      const shown = model.state === "ready" ? name : `${name} (${model.state})`;
      const attributes = { value: at, disabled: model.state !== "ready", title: model.reason ?? model.description };
      return element("option", attributes, shown);
    });
    this.#select.replaceChildren(...options);
    const first = this.#all.find(({ state }) => state === "ready");
    if (first) await this.#choose(first);
    else void this.model;
  }

  /**
   * Choose the first model of a family; throws a Problem where there is none.
   * @param {string | null} family
   */
  async chooseFamily(family) {
    const found = this.#all.find((model) => model.family === family && model.state === "ready");
    if (!found) throw new Problem({ title: "No model for this", detail: `No model here takes ${family}.` });
    await this.#choose(found);
  }

  /** @param {Summary} summary */
  async #choose(summary) {
    const { name, version } = summary;
    const path = `/v1/models/${encodeURIComponent(name)}/versions/${encodeURIComponent(version)}`;
    const model = await this.#api.json(path);
    this.#select.value = String(this.#all.indexOf(summary));
    this.#select.title = model.description;
    this.#model = model;
    this.#chosen(model);
  }
}
