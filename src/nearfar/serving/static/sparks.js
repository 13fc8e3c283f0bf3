// The small trends of the hall: asked for when they come into view, a few at a time.

import { all, drawn } from "./dom.js";
import { runs, scores } from "./scores.js";

const POINTS = 60;
const AT_ONCE = 4; // requests
const OLD = 120; // seconds of new sound, after which a trend is drawn again
const WIDTH = 240;
const HEIGHT = 46;

const waiting = new Set();
let asking = 0;
let hours = 24;

export function startSparks() {
  const hall = document.getElementById("hall");
  if (!hall) return;
  hours = Number(hall.dataset.hours);
  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      target.inView = isIntersecting;
      if (isIntersecting) want(target);
      else waiting.delete(target);
    }
  }, { rootMargin: "150px" });
  const watch = () => {
    for (const card of all(".machine", hall)) {
      if (card.inView === undefined) {
        card.inView = false;
        seen.observe(card);
      } else if (card.inView) {
        want(card);
      }
    }
  };
  watch();
  document.addEventListener("nearfar:changed", watch);
}

function want(card) {
  const heard = Number(card.dataset.heard);
  const place = card.querySelector(".spark");
  if (!heard || !place.checkVisibility() || heard - (card.drawnUntil ?? -Infinity) < OLD) return;
  waiting.add(card);
  next();
}

async function next() {
  if (asking >= AT_ONCE || waiting.size === 0) return;
  const [card] = waiting;
  waiting.delete(card);
  asking += 1;
  card.drawnUntil = Number(card.dataset.heard);
  try {
    const end = card.dataset.until ? Number(card.dataset.until) : Date.now() / 1000;
    const begin = end - 3600 * hours;
    draw(card, await scores(card.dataset.name, { begin, end, points: POINTS }), begin, end);
  } catch {
    card.drawnUntil = undefined; // it is asked for again when the page changes
  }
  asking -= 1;
  next();
}

function draw(card, points, begin, end) {
  const scored = points.filter((point) => point.mean !== null);
  const limit = card.dataset.threshold === undefined ? null : Number(card.dataset.threshold);
  const values = scored.flatMap((point) => [point.low, point.high]).concat(limit ?? []);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = high - low || 1;
  const x = (at) => (WIDTH * (at - begin)) / (end - begin);
  const y = (value) => HEIGHT - 3 - ((HEIGHT - 6) * (value - low)) / room;
  const svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const run of runs(points, (3 * 3600 * hours) / POINTS)) {
    const middle = (point) => x((point.from + point.to) / 2).toFixed(1);
    const upper = run.map((point) => `${middle(point)},${y(point.high).toFixed(1)}`);
    const lower = run.map((point) => `${middle(point)},${y(point.low).toFixed(1)}`).reverse();
    svg.append(drawn("polygon", { class: "range", points: [...upper, ...lower].join(" ") }));
    svg.append(drawn("polyline", { class: "line", points: run.map((p) => `${middle(p)},${y(p.mean).toFixed(1)}`).join(" ") }));
  }
  if (limit !== null) {
    svg.append(drawn("line", { class: "limit", x1: 0, x2: WIDTH, y1: y(limit), y2: y(limit) }));
    const over = scored.filter((point) => point.high > limit);
    for (const point of over) {
      const left = x(point.from);
      svg.append(drawn("rect", { class: "over", x: left, width: Math.max(x(point.to) - left, 1.5), y: HEIGHT - 3, height: 3 }));
    }
  }
  const place = card.querySelector(".spark");
  place.replaceChildren(svg);
  place.setAttribute("aria-label", said(scored, limit));
}

function said(scored, limit) {
  if (scored.length === 0) return `No score in the last ${hours} hours`;
  const over = limit === null ? 0 : scored.filter((point) => point.high > limit).length;
  const share = over === 0 ? "never above the threshold" : `above the threshold in ${Math.ceil((100 * over) / scored.length)} % of the time`;
  return `Trend of ${hours} hours: ${share}`;
}
