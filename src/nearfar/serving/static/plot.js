// How a trend is drawn: scores with their threshold, lanes of what happened, and below them the evidence of the rule.

import { timeTicks, ticks } from "./axis.js";
import { drawn, figure } from "./dom.js";
import { runs } from "./scores.js";
import { tick } from "./times.js";

const HEIGHT = 300;
const MARGIN = { left: 54, right: 14, top: 22, bottom: 24 };
const LANE = 8; // px of what was anomalous, unusable, paused
const RULE = { height: 44, gap: 12 };
const FEW = 150; // points that are also drawn as dots, if they are fewer
const LANES = ["paused", "unusable", "anomalous"]; // the last is drawn over the others
const LONGEST = 3; // points that may be missing in a line

export class Plot {
  constructor(limit) {
    this.limit = limit;
    this.left = MARGIN.left;
    this.width = 600;
    this.svg = drawn("svg", { class: "trend-plot", height: HEIGHT, tabindex: "0", role: "group", "aria-roledescription": "chart" });
    this.cursor = drawn("g", { "pointer-events": "none" });
    this.picked = drawn("g", { "pointer-events": "none" });
  }

  x(at) {
    return this.left + (this.width * (at - this.begin)) / (this.end - this.begin);
  }

  /** The time (s) at a place of the window (px). */
  at(clientX) {
    const share = (clientX - this.svg.getBoundingClientRect().left - this.left) / this.width;
    return this.begin + Math.min(Math.max(share, 0), 1) * (this.end - this.begin);
  }

  nearest(points, at) {
    let [best, least] = [-1, Infinity];
    points.forEach((point, index) => {
      const distance = Math.abs((point.from + point.to) / 2 - at);
      if (distance < least) [best, least] = [index, distance];
    });
    return best;
  }

  /** Draw; the names of what there was to draw. */
  draw(points, events, begin, end) {
    const box = this.svg.getBoundingClientRect();
    [this.begin, this.end] = [begin, end];
    this.width = Math.max(box.width - MARGIN.left - MARGIN.right, 60);
    const shown = points.filter((point) => point.to >= begin && point.from <= end);
    const scored = shown.filter((point) => point.mean !== null);
    const hasRule = shown.some((point) => point.evidence !== null);
    this.bottom = HEIGHT - MARGIN.bottom - (hasRule ? RULE.height + RULE.gap : 0) - LANE - 2;
    this.scale(scored);
    const names = new Set();
    const content = [this.definitions(), ...this.axes(hasRule)];
    if (scored.length) {
      content.push(...this.line(shown));
      names.add("mean");
    }
    if (this.limit !== null) {
      content.push(...this.threshold());
      names.add("limit");
    }
    for (const name of LANES) {
      const lane = this.lane(shown, name);
      if (lane.length) names.add(name);
      content.push(...lane);
    }
    if (hasRule) {
      content.push(...this.rule(shown));
      names.add("rule");
    }
    const marks = events.filter((event) => event.ends_at >= begin && event.begins_at <= end).map((event) => this.event(event));
    if (marks.length) names.add("event");
    this.svg.replaceChildren(...content, ...marks, this.picked, this.cursor);
    this.mark(null);
    return names;
  }

  scale(scored) {
    const values = scored.flatMap((point) => [point.low, point.high]).concat(this.limit ?? []);
    let [low, high] = values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
    const room = 0.06 * (high - low || Math.abs(high) || 1);
    [low, high] = [low - room, high + room];
    this.low = low;
    this.high = high;
    this.y = (value) => this.bottom - ((this.bottom - MARGIN.top) * (value - low)) / (high - low);
  }

  definitions() {
    const pattern = drawn("pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      drawn("line", { class: "hatch", x1: 0, x2: 0, y1: 0, y2: 6 }));
    const clip = drawn("clipPath", { id: "plot" }, drawn("rect", { x: this.left, y: 0, width: this.width, height: HEIGHT }));
    return drawn("defs", {}, pattern, clip);
  }

  axes(hasRule) {
    const right = this.left + this.width;
    const made = [drawn("text", { x: 2, y: 12 }, "Score")];
    for (const value of ticks(this.low, this.high, 5)) {
      const y = this.y(value);
      made.push(drawn("line", { class: "grid-line", x1: this.left, x2: right, y1: y, y2: y }));
      made.push(drawn("text", { x: this.left - 7, y: y + 4, "text-anchor": "end" }, figure(value)));
    }
    const bottom = HEIGHT - MARGIN.bottom;
    const { at, step } = timeTicks(this.begin, this.end, this.width / 95);
    for (const each of at) {
      const x = this.x(each);
      made.push(drawn("line", { class: "axis-line", x1: x, x2: x, y1: bottom, y2: bottom + 5 }));
      const anchor = x > right - 22 ? "end" : x < this.left + 22 ? "start" : "middle";
      made.push(drawn("text", { x, y: bottom + 18, "text-anchor": anchor }, tick(new Date(1000 * each), step)));
    }
    made.push(drawn("line", { class: "axis-line", x1: this.left, x2: right, y1: bottom, y2: bottom }));
    if (hasRule) {
      const y = bottom - RULE.height;
      made.push(drawn("line", { class: "grid-line", x1: this.left, x2: right, y1: y, y2: y }));
      made.push(drawn("text", { x: this.left - 7, y: y + 5, "text-anchor": "end" }, "alert"));
      made.push(drawn("text", { x: this.left - 7, y: bottom, "text-anchor": "end" }, "0"));
    }
    return made;
  }

  line(shown) {
    const group = drawn("g", { "clip-path": "url(#plot)" });
    const middle = (point) => this.x((point.from + point.to) / 2);
    for (const run of this.runs(shown)) {
      const upper = run.map((point) => `${middle(point)},${this.y(point.high)}`);
      const lower = run.map((point) => `${middle(point)},${this.y(point.low)}`).reverse();
      group.append(drawn("polygon", { class: "range", points: [...upper, ...lower].join(" ") }));
      group.append(drawn("polyline", { class: "mean", points: run.map((p) => `${middle(p)},${this.y(p.mean)}`).join(" ") }));
      if (shown.length < FEW || run.length === 1) {
        group.append(...run.map((p) => drawn("circle", { class: "dot", cx: middle(p), cy: this.y(p.mean), r: 2.2 })));
      }
    }
    return [group];
  }

  runs(shown) {
    const lengths = shown.map((point) => point.to - point.from).sort((a, b) => a - b);
    const apart = Math.max((this.end - this.begin) / this.width, lengths[Math.floor(lengths.length / 2)] ?? 0);
    return runs(shown, LONGEST * apart);
  }

  threshold() {
    const [y, right] = [this.y(this.limit), this.left + this.width];
    return [
      drawn("line", { class: "limit", x1: this.left, x2: right, y1: y, y2: y }),
      drawn("text", { class: "limit-words", x: this.left + 6, y: y - 5 }, `threshold ${figure(this.limit)}`),
    ];
  }

  lane(shown, name) {
    const found = shown.filter((point) => point[name] > 0);
    return found.map((point) => {
      const x = Math.max(this.x(point.from), this.left);
      const width = Math.max(Math.min(this.x(point.to), this.left + this.width) - x, 2);
      return drawn("rect", { class: name, x, width, y: this.bottom + 2, height: LANE });
    });
  }

  rule(shown) {
    const bottom = HEIGHT - MARGIN.bottom;
    const group = drawn("g", { "clip-path": "url(#plot)" });
    const told = shown.map((point) => ({ ...point, mean: point.evidence }));
    for (const run of this.runs(told)) {
      const place = (point) => `${this.x((point.from + point.to) / 2)},${bottom - RULE.height * Math.min(point.evidence, 1)}`;
      const line = run.map(place);
      const [first, last] = [line[0].split(",")[0], line.at(-1).split(",")[0]];
      group.append(drawn("polygon", { class: "rule-ground", points: [`${first},${bottom}`, ...line, `${last},${bottom}`].join(" ") }));
      group.append(drawn("polyline", { class: "rule", points: line.join(" ") }));
    }
    return [group];
  }

  event(event) {
    const x = Math.min(Math.max(this.x((event.peak_begins_at + event.peak_ends_at) / 2), this.left), this.left + this.width);
    const title = `Event, peak score ${figure(event.peak_score)}`;
    return drawn("path", { class: "event-mark", "data-event": event.id, d: `M${x - 6} 8h12l-6 10z` }, drawn("title", {}, title));
  }

  /** A line through a point that is read. */
  mark(point) {
    this.cursor.replaceChildren();
    if (!point) return;
    const x = Math.min(Math.max(this.x((point.from + point.to) / 2), this.left), this.left + this.width);
    this.cursor.append(drawn("line", { class: "cursor", x1: x, x2: x, y1: MARGIN.top - 4, y2: HEIGHT - MARGIN.bottom }));
    if (point.mean !== null) this.cursor.append(drawn("circle", { class: "cursor-dot", cx: x, cy: this.y(point.mean), r: 4 }));
  }

  /** The span that is being drawn with the mouse. */
  pick(pointer) {
    this.picked.replaceChildren();
    if (!pointer) return;
    const [a, b] = [this.x(this.at(pointer.from)), this.x(this.at(pointer.to))].sort((one, other) => one - other);
    this.picked.append(drawn("rect", { class: "picked", x: a, width: b - a, y: MARGIN.top, height: HEIGHT - MARGIN.top - MARGIN.bottom }));
  }
}
