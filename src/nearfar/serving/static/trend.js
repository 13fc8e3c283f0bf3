// The trend of a machine: which span is shown, and how people move in it. How it looks is in plot.js.
//
// Mouse: drag over a span to see it, double click to see twice as much. Touch: two fingers. Keyboard, on the chart: + and -
// zoom, arrows read point by point, Shift and arrows move, 0 shows all. And buttons for all of it.

import { get } from "./asking.js";
import { element, figure } from "./dom.js";
import { Plot } from "./plot.js";
import { scores } from "./scores.js";
import { clock } from "./times.js";

const HOUR = 3600;
const SPANS = [["1 h", HOUR, "1 hour"], ["1 d", 24 * HOUR, "1 day"], ["1 w", 168 * HOUR, "1 week"], ["All", Infinity, "All that is known"]];
const LEAST = 60; // seconds that can be seen at least
const ZOOM = 2;
const CALM = 5000; // ms between two requests because of new sound
const POINTS = { least: 120, most: 800, each: 2 }; // px for each point
const KEYS = [
  ["mean", "mean score, and from the lowest to the highest"], ["limit", "threshold"], ["rule", "evidence of the rule for alerts"],
  ["event", "event"], ["anomalous", "anomalous"], ["unusable", "unusable"], ["paused", "paused"],
];

export function startTrend() {
  const figureElement = document.getElementById("trend");
  if (figureElement) new Trend(figureElement).start();
}

class Trend {
  constructor(root) {
    this.root = root;
    this.name = root.dataset.name;
    this.span = 24 * HOUR; // or Infinity
    this.end = null; // seconds; null: now, and it moves on
    this.points = [];
    this.events = [];
    this.index = -1; // of the point that is read
    this.loaded = -Infinity;
  }

  start() {
    this.build();
    this.listen();
    this.load();
    new ResizeObserver(() => this.draw()).observe(this.svg);
    document.addEventListener("nearfar:heard", ({ detail }) => {
      if (detail.machine === decodeURIComponent(this.name) && this.end === null) this.later();
    });
    document.addEventListener("nearfar:live", () => { if (this.end === null) this.later(); }); // heard meanwhile
  }

  build() {
    const button = (words, label, act) => {
      const made = element("button", { type: "button", "aria-label": label }, words);
      made.addEventListener("click", act);
      return made;
    };
    this.spans = SPANS.map(([words, span, label]) => {
      const made = button(words, label, () => this.show(span, null));
      made.dataset.span = span;
      return made;
    });
    const tools = element("div", { class: "chart-tools", role: "group", "aria-label": "Span of time" },
      ...this.spans, element("span", { class: "gap" }),
      button("←", "Earlier", () => this.move(-0.5)), button("→", "Later", () => this.move(0.5)),
      button("+", "Zoom in", () => this.zoom(1 / ZOOM)), button("−", "Zoom out", () => this.zoom(ZOOM)));
    this.plot = new Plot(this.root.dataset.threshold === "" ? null : Number(this.root.dataset.threshold));
    this.svg = this.plot.svg;
    this.readout = element("output", { class: "readout", "aria-live": "polite" });
    this.legend = element("ul", { class: "legend", "aria-label": "Legend" });
    this.root.replaceChildren(tools, this.svg, this.readout, this.legend);
  }

  // ---- what is shown ----

  now() {
    return this.root.dataset.until ? Number(this.root.dataset.until) : Date.now() / 1000;
  }

  view() {
    const end = this.end ?? this.now();
    if (this.span !== Infinity) return [end - this.span, end];
    const first = this.points.length ? this.points[0].from : end - 24 * HOUR;
    return [first, Math.max(end, first + LEAST)];
  }

  show(span, end) {
    this.span = span === Infinity ? span : Math.max(span, LEAST);
    this.end = end !== null && end >= this.now() ? null : end;
    this.index = -1;
    this.load();
  }

  move(share) {
    const [begin, end] = this.view();
    this.show(end - begin, end + share * (end - begin));
  }

  /** So many times the span, around a place that stays where it is. */
  zoom(factor, at) {
    const [begin, end] = this.view();
    const span = Math.max(factor * (end - begin), LEAST);
    if (at === undefined && this.end === null && this.index < 0) return this.show(span, null);
    const place = at ?? (this.index < 0 ? (begin + end) / 2 : this.points[this.index].from);
    return this.show(span, place + (span * (end - place)) / (end - begin));
  }

  later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.load(), Math.max(200, this.loaded + CALM - performance.now()));
  }

  async load() {
    this.asking?.abort();
    const asking = new AbortController();
    this.asking = asking;
    this.loaded = performance.now();
    this.press();
    const [begin, end] = this.view();
    const whole = this.span === Infinity;
    const points = Math.min(Math.max(this.plot.width / POINTS.each, POINTS.least), POINTS.most);
    const asked = { begin: whole ? undefined : begin, end: this.end === null ? undefined : end, points, signal: asking.signal };
    this.draw();
    try {
      const events = new URLSearchParams({ most: "200", ...(whole ? {} : { begin, end }) });
      const [read, told] = await Promise.all([
        scores(this.name, asked),
        get(`/api/machines/${this.name}/events?${events}`, { signal: asking.signal }),
      ]);
      [this.points, this.events] = [read, told.events];
      this.draw();
      if (this.index < 0) this.tell("");
    } catch (error) {
      if (error.name !== "AbortError") this.readout.value = `The trend could not be read. ${error.message}`;
    }
  }

  draw() {
    const [begin, end] = this.view();
    const drawn = this.plot.draw(this.points, this.events, begin, end);
    const keys = KEYS.filter(([name]) => drawn.has(name));
    this.legend.replaceChildren(...keys.map(([name, words]) => element("li", {}, element("span", { class: `key key-${name}` }), words)));
    const span = `${clock(new Date(1000 * begin))} to ${clock(new Date(1000 * end))}`;
    this.svg.setAttribute("aria-label", `Score of the machine from ${span}. Arrow keys read it, plus and minus zoom.`);
    if (this.index >= this.points.length) this.index = -1;
    if (this.index >= 0) this.plot.mark(this.points[this.index]);
  }

  press() {
    for (const button of this.spans) {
      button.setAttribute("aria-pressed", String(this.end === null && Number(button.dataset.span) === this.span));
    }
  }

  // ---- reading ----

  tell(words) {
    if (words !== "") { this.readout.value = words; return; }
    const scored = this.points.filter((point) => point.mean !== null);
    if (scored.length === 0) { this.readout.value = "No score in this span."; return; }
    const high = Math.max(...scored.map((point) => point.high));
    this.readout.value = `Highest score in this span: ${figure(high)}${this.plot.limit === null ? "" : `; threshold: ${figure(this.plot.limit)}`}.`;
  }

  read(index) {
    this.index = Math.min(Math.max(index, 0), this.points.length - 1);
    const point = this.points[this.index];
    if (!point) return;
    this.plot.mark(point);
    const many = point.count > 1;
    const when = clock(new Date(1000 * point.from), { seconds: !many });
    const value = point.mean === null ? "no score"
      : many ? `mean ${figure(point.mean)}, from ${figure(point.low)} to ${figure(point.high)}, ${point.count} windows`
        : `score ${figure(point.mean)}`;
    const shares = ["anomalous", "unusable", "paused"].filter((name) => point[name] > 0)
      .map((name) => (point[name] === 1 ? name : `${figure(100 * point[name], 2)} % ${name}`));
    const rule = point.evidence === null ? [] : [`evidence ${figure(100 * point.evidence, 3)} %`];
    this.tell(`${when}: ${[value, ...shares, ...rule].join("; ")}`);
  }

  // ---- mouse, touch, keys ----

  listen() {
    const { svg } = this;
    const keys = {
      "+": () => this.zoom(1 / ZOOM), "=": () => this.zoom(1 / ZOOM), "-": () => this.zoom(ZOOM), "0": () => this.show(Infinity, null),
      ArrowLeft: (shift) => (shift ? this.move(-0.25) : this.read(this.index < 0 ? this.points.length - 1 : this.index - 1)),
      ArrowRight: (shift) => (shift ? this.move(0.25) : this.read(this.index < 0 ? 0 : this.index + 1)),
      Home: () => this.read(0), End: () => this.read(this.points.length - 1),
    };
    svg.addEventListener("keydown", (event) => {
      const act = event.ctrlKey || event.metaKey || event.altKey ? undefined : keys[event.key];
      if (act) { event.preventDefault(); act(event.shiftKey); }
    });
    svg.addEventListener("dblclick", (event) => this.zoom(ZOOM, this.plot.at(event.clientX)));
    svg.addEventListener("pointerleave", () => { if (this.index >= 0) { this.index = -1; this.plot.mark(null); this.tell(""); } });
    const down = new Map(); // pointers that touch: where they began, and where they are
    svg.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      svg.setPointerCapture(event.pointerId);
      down.set(event.pointerId, { from: event.clientX, to: event.clientX });
      this.before = this.view();
    });
    svg.addEventListener("pointermove", (event) => this.moved(event, down));
    svg.addEventListener("pointerup", (event) => this.raised(event, down));
    svg.addEventListener("pointercancel", (event) => { down.delete(event.pointerId); this.plot.pick(null); });
  }

  moved(event, down) {
    const pointer = down.get(event.pointerId);
    if (pointer) pointer.to = event.clientX;
    if (down.size === 2) this.pinch([...down.values()]);
    else if (pointer && event.pointerType === "mouse" && Math.abs(pointer.to - pointer.from) > 4) this.plot.pick(pointer);
    else this.read(this.plot.nearest(this.points, this.plot.at(event.clientX)));
  }

  raised(event, down) {
    const pointer = down.get(event.pointerId);
    const two = down.size === 2;
    down.delete(event.pointerId);
    if (!pointer) return;
    this.plot.pick(null);
    if (two) { this.load(); return; }
    if (Math.abs(pointer.to - pointer.from) <= 4) { goToEvent(event); return; }
    if (event.pointerType !== "mouse") return;
    const [from, to] = [this.plot.at(pointer.from), this.plot.at(pointer.to)].sort((a, b) => a - b);
    this.show(to - from, to);
  }

  /** What was below the two fingers stays below them. */
  pinch([a, b]) {
    const [begin, end] = this.before;
    const box = this.svg.getBoundingClientRect();
    const share = (x) => (x - box.left - this.plot.left) / this.plot.width;
    const at = (x) => begin + share(x) * (end - begin);
    const apart = share(b.to) - share(a.to);
    if (Math.abs(apart) < 0.02) return;
    const span = Math.max((at(b.from) - at(a.from)) / apart, LEAST);
    const first = at(a.from) - share(a.to) * span;
    [this.span, this.end] = [span, Math.min(first + span, this.now())];
    this.press();
    this.draw();
  }
}

/** From a mark of the chart to its row in the table. */
function goToEvent({ clientX, clientY }) {
  const mark = document.elementFromPoint(clientX, clientY)?.closest("[data-event]");
  const row = mark && document.getElementById(`event-${mark.dataset.event}`);
  if (!row) return;
  row.closest("details")?.setAttribute("open", ""); // older ones are folded
  row.scrollIntoView({ block: "center" });
  row.querySelector("audio")?.focus({ preventScroll: true });
}
