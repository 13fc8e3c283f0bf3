// Times as people read them: in the browser's zone, the day only where it is not today, the exact time on hover.

import { all } from "./dom.js";

const LOCALE = "en-GB"; // the language of the page; hours from 0 to 24
const MINUTE = 60000;
const UNITS = [["d", 1440], ["h", 60], ["min", 1]];
const format = (options) => new Intl.DateTimeFormat(LOCALE, options);
const CLOCK = format({ hour: "2-digit", minute: "2-digit" });
const SECONDS = format({ hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = format({ day: "numeric", month: "short" });
const DAY_OF_YEAR = format({ day: "numeric", month: "short", year: "numeric" });
const EXACT = format({
  weekday: "long", day: "numeric", month: "long", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit",
  timeZoneName: "short",
});

export const zone = () => Intl.DateTimeFormat().resolvedOptions().timeZone;

const day = (when, now) => (when.getFullYear() === now.getFullYear() ? DAY : DAY_OF_YEAR).format(when);

/** "14:02" of today, "28 Nov, 14:02" of another day. */
export function clock(when, { seconds = false, now = new Date() } = {}) {
  const told = (seconds ? SECONDS : CLOCK).format(when);
  return when.toDateString() === now.toDateString() ? told : `${day(when, now)}, ${told}`;
}

/** A day, or a day and an hour, for ticks so many milliseconds apart. */
export function tick(when, step) {
  if (step >= 86400000) return DAY.format(when);
  const midnight = when.getHours() === 0 && when.getMinutes() === 0 && when.getSeconds() === 0;
  if (midnight) return DAY.format(when);
  return (step < MINUTE ? SECONDS : CLOCK).format(when);
}

/** How long ago, in one unit; nothing of what is to come. */
export function ago(when, now = new Date()) {
  const minutes = Math.floor((now - when) / MINUTE);
  if (minutes < 0) return "";
  const [unit, size] = UNITS.find(([, length]) => minutes >= length) ?? ["min", 1];
  return minutes < 1 ? "just now" : `${Math.floor(minutes / size)} ${unit} ago`;
}

/** Put the time of the browser's zone into every <time> below a root. */
export function tellTimes(root = document) {
  const now = new Date();
  for (const told of all("time[datetime]", root)) {
    const when = new Date(told.getAttribute("datetime"));
    const past = told.hasAttribute("data-relative") ? ago(when, now) : "";
    const text = clock(when, { now }) + (past ? ` (${past})` : "");
    if (told.textContent !== text) told.textContent = text;
    if (!told.title) told.title = EXACT.format(when);
  }
}
