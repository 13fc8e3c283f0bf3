"use strict";
// Runs before anything is drawn: the colours that were chosen, and the room of all that only scripts can do.
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");
  let theme = "";
  try {
    theme = localStorage.getItem("nearfar.theme");
  } catch {
    // storage is forbidden: the colours are those of the system
  }
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
})();
