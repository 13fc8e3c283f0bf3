// What was done, in words, for a while.

import { element } from "./dom.js";

const PLAIN = 6000; // ms
const WITH_UNDO = 12000;

/** Words of what was done, with a way back if there is one. */
export function toast(words, undo) {
  const made = element("div", { class: "toast" }, element("span", {}, words));
  const gone = setTimeout(() => made.remove(), undo ? WITH_UNDO : PLAIN);
  if (undo) {
    const button = element("button", { type: "button" }, "Undo");
    button.addEventListener("click", () => { clearTimeout(gone); made.remove(); undo(); });
    made.append(button);
  }
  document.getElementById("toasts").append(made);
}
