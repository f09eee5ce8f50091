// @ts-check
/** Light and dark: as the system has it, until the switch says otherwise. */

/** @typedef {import("./colors.js").Theme} Theme */

const NAMES = ["auto", "light", "dark"];
const KEPT = "regard-theme";

export class ThemeSwitch {
  #button;
  #system = matchMedia("(prefers-color-scheme: dark)");
  #name = kept();

  /** @param {HTMLButtonElement} button */
  constructor(button) {
    this.#button = button;
    this.#show();
  }

  /** @returns {Theme} */
  get theme() {
    if (this.#name === "light" || this.#name === "dark") return this.#name;
    return this.#system.matches ? "dark" : "light";
  }

  /**
   * Say when the theme changes.
   * @param {(theme: Theme) => void} changed
   */
  follow(changed) {
    this.#button.addEventListener("click", () => {
      this.#name = NAMES[(NAMES.indexOf(this.#name) + 1) % NAMES.length];
      keep(this.#name);
      this.#show();
      changed(this.theme);
    });
    this.#system.addEventListener("change", () => changed(this.theme));
  }

  #show() {
    document.documentElement.dataset.theme = this.#name;
    this.#button.textContent = `Theme: ${this.#name}`;
  }
}

/** @returns {string} what was chosen on an earlier visit, where the browser lets a page remember */
function kept() {
  try {
    const name = localStorage.getItem(KEPT) ?? "";
    return NAMES.includes(name) ? name : NAMES[0];
  } catch {
    return NAMES[0];
  }
}

/** @param {string} name */
function keep(name) {
  try {
    localStorage.setItem(KEPT, name);
  } catch {
    // Then it holds until the page is left.
  }
}
