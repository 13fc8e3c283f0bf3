// Scores of a machine, as the interface gives them: windows, or what several became together.

import { get } from "./asking.js";

/** Points in order of time: from, to (s), low, mean, high (null: no score), and which share was anomalous and so on. */
export async function scores(quotedName, { begin, end, points, signal }) {
  const asked = new URLSearchParams({ points: String(Math.round(points)) });
  if (begin !== undefined) asked.set("begin", String(begin));
  if (end !== undefined) asked.set("end", String(end));
  const told = await get(`/api/machines/${quotedName}/scores?${asked}`, { signal });
  return told.points.map(pointOf);
}

function pointOf(told) {
  const one = told.decision !== undefined;
  const count = told.windows ?? 1;
  const share = (number, decision) => (one ? Number(told.decision === decision) : Math.max(number || 0, 0) / count);
  return {
    from: told.begins_at,
    to: told.begins_at + told.seconds,
    low: told.lowest ?? told.score ?? null,
    mean: told.mean ?? told.score ?? null,
    high: told.highest ?? told.score ?? null,
    count,
    anomalous: share(told.anomalous, "anomaly"),
    unusable: share(told.unusable, "unusable"),
    paused: share(told.paused ?? count - told.scored - told.unusable, "paused"),
    evidence: told.evidence ?? null,
  };
}

/** Runs of points that follow each other, without a gap and without one that has no score. */
export function runs(points, longest) {
  const found = [];
  let last = null;
  for (const point of points) {
    const follows = last !== null && point.from - last.to <= longest;
    if (point.mean === null) { last = null; continue; }
    if (follows) found[found.length - 1].push(point);
    else found.push([point]);
    last = point;
  }
  return found;
}
