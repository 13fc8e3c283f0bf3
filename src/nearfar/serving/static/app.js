// What runs on every page. Each module does one thing; here they are put together.

import { startActions } from "./actions.js";
import { startFilter } from "./filter.js";
import { all } from "./dom.js";
import { startLive } from "./live.js";
import { startSettings } from "./settings.js";
import { startSparks } from "./sparks.js";
import { tellTimes, zone } from "./times.js";
import { startTrend } from "./trend.js";

/** Called once, and after each change of the page: everything in it gets what only scripts can do. */
function dress() {
  for (const hidden of all("[data-needs-script][hidden]")) hidden.hidden = false;
  tellTimes();
}

document.getElementById("zone").textContent = zone();
dress();
document.addEventListener("nearfar:changed", dress);
setInterval(tellTimes, 30000);
startFilter();
startSparks();
startTrend();
startActions();
startSettings();
startLive();

// One sound at a time
document.addEventListener("play", (event) => {
  for (const audio of all("audio")) if (audio !== event.target) audio.pause();
}, true);

// What a filter of alerts is set to is asked for at once
const asked = document.getElementById("asked");
asked?.addEventListener("change", () => asked.requestSubmit());
