// What this browser remembers of the person before it: a name, whether alerts make a sound, colours.

import { chime } from "./alarm.js";
import { store, stored } from "./stored.js";
import { post } from "./asking.js";

export function startSettings() {
  const dialog = document.getElementById("settings");
  const form = dialog.querySelector("form");
  document.getElementById("settings-button").addEventListener("click", () => {
    if (form.by) form.by.value = stored("by");
    form.sound.checked = stored("sound") === "yes";
    form.notify.checked = stored("notify") === "yes";
    form.theme.value = stored("theme");
    dialog.showModal();
  });
  form.addEventListener("change", (event) => changed(form, event.target));
  form.addEventListener("submit", () => { if (form.by) remember(form.by.value); });
  document.getElementById("sign-out")?.addEventListener("click", async () => {
    await post("/logout", {});
    location.assign("/login");
  });
  showName();
}

async function changed(form, field) {
  if (field.name === "theme") {
    store("theme", field.value);
    if (field.value) document.documentElement.dataset.theme = field.value;
    else delete document.documentElement.dataset.theme;
  } else if (field.name === "sound") {
    store("sound", field.checked ? "yes" : "");
    if (field.checked) chime();
  } else if (field.name === "notify") {
    await notifications(form, field);
  }
}

async function notifications(form, field) {
  const wrong = form.querySelector("[data-wrong]");
  const can = "Notification" in window;
  const granted = field.checked && can && (await Notification.requestPermission()) === "granted";
  wrong.hidden = !field.checked || granted;
  if (field.checked && !granted) {
    wrong.textContent = can
      ? "This browser does not allow notifications of this page. Allow them in the settings of the site, then try again."
      : "This browser shows notifications of pages with HTTPS or on this computer only.";
    field.checked = false;
  }
  store("notify", granted ? "yes" : "");
}

/** Who acts: the name of the token, or what this browser remembers. */
export const actor = () => document.body.dataset.by ?? stored("by");

export function remember(name) {
  store("by", name.trim());
  showName();
}

function showName() {
  if (document.body.dataset.by !== undefined) return;
  document.getElementById("settings-button").textContent = stored("by") || "Settings";
}
