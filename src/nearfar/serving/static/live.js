// What changes is shown without reload. The server says that something changed (server-sent events); this page then asks
// for its own address again and takes over what differs (morph.js).

import { morph } from "./morph.js";
import { alarm } from "./alarm.js";
import { clock } from "./times.js";

const SOON = 150; // ms: what changes together is fetched once
const CALM = 5000; // ms between two fetches for new scores alone; alerts do not wait
const CALM_HALL = 15000; // the same of the hall, where there is a new score every moment
const AGAIN = 5000; // ms until a connection that was refused is tried again

const TOLD = ["activated", "annunciated"]; // of the journal: an alert that people are told of
const here = document.body.dataset.here;
let due = Infinity; // when to fetch, by performance.now
let timer = 0;
let fetched = 0;
let fetching = false;
let lostSince = null;

export function startLive() {
  connect();
  document.addEventListener("nearfar:acted", () => refresh(0));
  document.addEventListener("visibilitychange", () => { if (!document.hidden) plan(); });
  addEventListener("pageshow", (event) => { if (event.persisted) refresh(0); });
}

function connect() {
  const source = new EventSource("/api/changes");
  source.addEventListener("open", () => {
    tell("live");
    lostSince = null;
    refresh(0); // what happened since this page was made, or while there was no connection
    document.dispatchEvent(new CustomEvent("nearfar:live"));
  });
  source.addEventListener("error", () => {
    lostSince ??= new Date();
    tell("lost");
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, AGAIN);
  });
  source.addEventListener("alert", (event) => arrived(JSON.parse(event.data)));
  source.addEventListener("event", (event) => concerns(JSON.parse(event.data), 0));
  source.addEventListener("machine", (event) => {
    const told = JSON.parse(event.data);
    concerns(told, told.what === "heard" ? (here === "hall" ? CALM_HALL : CALM) : 0);
    document.dispatchEvent(new CustomEvent("nearfar:heard", { detail: told }));
  });
  source.addEventListener("lost", () => refresh(0));
  addEventListener("pagehide", () => source.close(), { once: true });
}

function tell(state) {
  const place = document.getElementById("connection");
  place.dataset.state = state;
  const words = state === "live" ? "live" : `not connected since ${clock(lostSince)}`;
  const told = place.querySelector("[data-words]");
  if (told.textContent !== words) told.textContent = words;
}

function arrived(told) {
  refresh(0);
  if (!TOLD.includes(told.what) || told.annunciated === false) return;
  const words = `Alert at ${told.machine}: ${told.message || told.condition}`;
  document.getElementById("said").textContent = words;
  alarm(words);
}

function concerns(told, calm) {
  const shown = document.getElementById("trend")?.dataset.name; // of the page of one machine
  const ofAll = told.machine === undefined; // whether anything listens at all
  if (here === "alerts" || (!ofAll && shown !== undefined && told.machine !== decodeURIComponent(shown))) return;
  refresh(calm);
}

/** Fetch soon, but no sooner than so many milliseconds after the last time. */
function refresh(calm) {
  due = Math.min(due, Math.max(performance.now() + SOON, fetched + calm));
  plan();
}

function plan() {
  clearTimeout(timer);
  if (due === Infinity || document.hidden || fetching) return;
  timer = setTimeout(fetchPage, Math.max(0, due - performance.now()));
}

async function fetchPage() {
  if (document.querySelector("dialog[open]")) { // nothing moves below somebody who is writing
    due = performance.now() + 500;
    plan();
    return;
  }
  [due, fetching] = [Infinity, true];
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-cache" });
    if (answer.redirected) location.reload(); // signed out
    else if (answer.ok) show(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch {
    // not connected: the stream of changes says so, and asks again when it is
  }
  fetched = performance.now();
  fetching = false;
  plan();
}

function show(now) {
  const known = new Set([...document.querySelectorAll("article.alert")].map((alert) => alert.id));
  document.title = now.title;
  for (const id of ["main", "waiting"]) {
    const [old, next] = [document.getElementById(id), now.getElementById(id)];
    if (old && next) morph(old, next);
  }
  for (const alert of document.querySelectorAll("article.alert")) {
    if (!known.has(alert.id)) alert.classList.add("arrived");
  }
  document.dispatchEvent(new CustomEvent("nearfar:changed"));
}
