// @ts-check
/** Asks for an API key. It is handed on and kept nowhere else. */

import { byId } from "./element.js";

/**
 * @param {string} reason
 * @returns {Promise<string | null>} null where the reader has none
 */
export function askKey(reason) {
  const dialog = byId("key-dialog", HTMLDialogElement);
  const field = byId("key", HTMLInputElement);
  byId("key-reason", HTMLElement).textContent = reason;
  field.value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => {
        resolve(dialog.returnValue === "use" ? field.value.trim() : null);
        field.value = "";
        dialog.returnValue = "";
      },
      { once: true },
    );
  });
}
