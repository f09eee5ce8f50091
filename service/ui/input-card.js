// @ts-check
/** Where an input comes in: typed, dropped, pasted, chosen from a folder or from the examples. */

import { byId, element } from "./element.js";
import { attentionOf } from "./maps.js";

/** @typedef {import("./maps.js").Model} Model */
/** @typedef {import("./session.js").Input} Input */
/** @typedef {"text" | "image" | "video"} Family */
/** @typedef {{file: string, family: Family, title: string}} Example */

const ACCEPT = {
  text: "text/*,.rs,.py,.js,.ts,.c,.h,.cpp,.go,.java,.rb,.sh,.sql,.md,.txt",
  image: "image/png,image/jpeg,image/webp,image/gif",
  video: "video/*,image/gif,.mkv",
};
const INVITES = {
  text: "Type or paste a text, or drop a file",
  image: "Drop or paste a picture",
  video: "Drop or paste a clip",
};

export class InputCard {
  #form = byId("ask", HTMLFormElement);
  #text = byId("text", HTMLTextAreaElement);
  #pair = byId("pair", HTMLTextAreaElement);
  #file = byId("file", HTMLInputElement);
  #examples = byId("examples", HTMLElement);
  #chosen = byId("chosen", HTMLElement);
  #verify = byId("verify", HTMLInputElement);
  /** @type {Family} */
  #family = "text";
  #pairs = false;
  /** @type {Example[]} */
  #all = [];
  #ask;
  #failed;

  /**
   * @param {object} of
   * @param {(input: Input, family: Family | null) => void} of.ask is told what to ask, and which family it
   *   looks like
   * @param {() => void} of.changed is told when the same input is to be asked about in another way
   * @param {(error: unknown) => void} of.failed
   */
  constructor({ ask, changed, failed }) {
    this.#ask = ask;
    this.#failed = failed;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#askText();
    });
    this.#verify.addEventListener("change", changed);
    this.#form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.#askText();
    });
    byId("choose", HTMLButtonElement).addEventListener("click", () => this.#file.click());
    this.#file.addEventListener("change", () => {
      this.#take(this.#file.files);
      this.#file.value = ""; // so that the same file can be chosen again
    });
    this.#listen();
  }

  /** @param {Example[]} examples */
  set examples(examples) {
    this.#all = examples;
    this.#showExamples();
  }

  /**
   * Take inputs of a model.
   * @param {Model} model
   */
  show(model) {
    const { family, preprocessing } = model;
    this.#family = family;
    /** @type {HTMLElement} */ (this.#verify.parentElement).hidden = attentionOf(model) === null;
    this.#pairs = preprocessing.pairs === true;
    this.#form.dataset.family = family;
    this.#form.toggleAttribute("data-pairs", this.#pairs);
    this.#file.accept = ACCEPT[family];
    byId("invite", HTMLElement).textContent = INVITES[family];
    this.#showExamples();
  }

  /** Whether the attention behind an answer is to be proven, where there is attention. */
  get verify() {
    return this.#verify.checked && !this.#verify.closest("[hidden]");
  }

  /**
   * Say what is being asked about.
   * @param {Input} input
   */
  name(input) {
    this.#chosen.textContent = input.kind === "file" ? `${input.name}, ${size(input.data.size)}` : "";
    if (input.kind === "text") {
      this.#text.value = input.text;
      this.#pair.value = input.pair ?? "";
    }
  }

  #askText() {
    const pair = this.#pairs && this.#pair.value ? this.#pair.value : null;
    if (this.#text.value) this.#ask({ kind: "text", text: this.#text.value, pair }, "text");
  }

  #showExamples() {
    const fit = this.#all.filter(({ family }) => family === this.#family);
    this.#examples.replaceChildren(
      ...fit.map((example) => {
        const button = element("button", { type: "button", class: "chip" }, example.title);
        button.addEventListener("click", () => this.#takeExample(example));
        return button;
      }),
    );
    this.#examples.hidden = !fit.length;
  }

  #listen() {
    const zone = this.#form;
    document.addEventListener("dragover", (event) => {
      event.preventDefault();
      zone.toggleAttribute("data-over", true);
    });
    document.addEventListener("dragleave", (event) => {
      if (event.relatedTarget === null) zone.removeAttribute("data-over");
    });
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      zone.removeAttribute("data-over");
      this.#receive(event.dataTransfer);
    });
    document.addEventListener("paste", (event) => {
      const typing = event.target instanceof Element && event.target.closest("textarea, input");
      if (typing && !event.clipboardData?.files.length) return;
      event.preventDefault();
      this.#receive(event.clipboardData);
    });
  }

  /** @param {DataTransfer | null} given */
  #receive(given) {
    if (given?.files.length) {
      this.#take(given.files);
      return;
    }
    const text = given?.getData("text/plain");
    if (text) this.#ask({ kind: "text", text, pair: null }, "text");
  }

  /** @param {FileList | null} files */
  #take(files) {
    const file = files?.[0];
    if (file) void this.#takeFile(file, file.name, null);
  }

  /** @param {Example} example */
  async #takeExample({ file, title }) {
    const address = `/ui/examples/${file}`;
    try {
      const answer = await fetch(address);
      if (!answer.ok) throw new Error(`the example ${title} is not there`);
      await this.#takeFile(await answer.blob(), file, address);
    } catch (error) {
      this.#failed(error);
    }
  }

  /**
   * @param {Blob} data
   * @param {string} name
   * @param {string | null} address
   */
  async #takeFile(data, name, address) {
    const family = familyOf(data.type, this.#family);
    try {
      if (family !== "text") {
        this.#ask({ kind: "file", data, type: data.type, name, address }, family);
        return;
      }
      const text = new TextDecoder("utf-8", { fatal: true }).decode(await data.arrayBuffer());
      this.#ask({ kind: "text", text, pair: null }, "text");
    } catch (error) {
      this.#failed(error instanceof TypeError ? new Error(`${name} is no text in UTF-8.`) : error);
    }
  }
}

/**
 * The family a media type is of; a GIF may be a picture or a clip, and what is unknown is what is expected.
 * @param {string} type
 * @param {Family} expected
 * @returns {Family}
 */
function familyOf(type, expected) {
  if (type === "image/gif" && expected === "video") return "video";
  if (type.startsWith("image/")) return "image";
  if (type.startsWith("video/")) return "video";
  if (type.startsWith("text/")) return "text";
  return expected;
}

/**
 * @param {number} bytes
 * @returns {string}
 */
function size(bytes) {
  if (bytes < 1024) return `${bytes} bytes`;
  return bytes < 1024 ** 2 ? `${Math.round(bytes / 1024)} KiB` : `${(bytes / 1024 ** 2).toFixed(1)} MiB`;
}
