// The hall, filtered by name and state, and in small tiles. What is chosen stays in the address, so it can be sent to
// somebody else; the size of the tiles is remembered by the browser.

import { all } from "./dom.js";
import { store, stored } from "./stored.js";

const chosen = new URLSearchParams(location.hash.slice(1));
let kind = chosen.get("state") ?? "";
let part = chosen.get("name") ?? "";

export function startFilter() {
  const hall = document.getElementById("hall");
  if (!hall) return;
  const [name, compact] = [document.getElementById("filter-name"), document.getElementById("compact")];
  name.value = part;
  name.addEventListener("input", () => { part = name.value; changed(); });
  compact.checked = (stored("compact") || compact.dataset.start) === "yes";
  const size = () => hall.classList.toggle("compact", compact.checked);
  compact.addEventListener("change", () => { store("compact", compact.checked ? "yes" : "no"); size(); });
  document.getElementById("kinds").addEventListener("click", (event) => {
    const button = event.target.closest("[data-kind]");
    if (button) { kind = kind === button.dataset.kind ? "" : button.dataset.kind; changed(); }
  });
  document.getElementById("show-all").addEventListener("click", () => {
    [kind, part, name.value] = ["", "", ""];
    changed();
    name.focus();
  });
  document.addEventListener("nearfar:changed", apply);
  size();
  apply();
}

function changed() {
  const now = new URLSearchParams();
  if (kind) now.set("state", kind);
  if (part) now.set("name", part);
  history.replaceState(null, "", now.size ? `#${now}` : location.pathname);
  apply();
}

function apply() {
  const wanted = part.trim().toLocaleLowerCase();
  let left = 0;
  for (const card of all("#hall > .machine")) {
    const name = decodeURIComponent(card.dataset.name).toLocaleLowerCase();
    card.hidden = !(name.includes(wanted) && (kind === "" || kind === card.dataset.kind));
    left += !card.hidden;
  }
  for (const button of all("#kinds [data-kind]")) button.setAttribute("aria-pressed", String(button.dataset.kind === kind));
  document.getElementById("none-left").hidden = left > 0;
}
