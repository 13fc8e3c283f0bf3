// What runs on every page. Each module does one thing; here they are put together.

import { startActions } from "./actions.js";
import { startFilter } from "./filter.js";
import { all } from "./dom.js";
import { startLive } from "./live.js";
import { startSettings } from "./settings.js";
import { startSparks } from "./sparks.js";
import { tellTimes, zone } from "./times.js";
import { startTrend } from "./trend.js";

document.getElementById("zone").textContent = zone();
tellTimes();
document.addEventListener("nearfar:changed", () => tellTimes());
setInterval(() => tellTimes(), 30000);
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
