// Ticks of numbers and of times, at places that people find round.

const STEPS = [1, 2, 5, 10]; // times a power of ten
const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const TIME_STEPS = [
  SECOND, 2 * SECOND, 5 * SECOND, 10 * SECOND, 30 * SECOND, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE,
  30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 28 * DAY, 91 * DAY, 364 * DAY,
];

/** Round numbers between two, about so many. */
export function ticks(low, high, count) {
  const rough = (high - low) / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * STEPS.find((each) => each * power >= rough * 0.999);
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + 1e-9 * step; n += 1) found.push(Number((n * step).toPrecision(12)));
  return found;
}

/** Round times of the browser's zone between two (s since 1970), about so many, with their step in ms. */
export function timeTicks(begin, end, count) {
  const [from, to] = [1000 * begin, 1000 * end];
  const rough = (to - from) / Math.max(count, 1);
  const step = TIME_STEPS.find((each) => each >= rough) ?? TIME_STEPS.at(-1);
  const first = new Date(from);
  first.setHours(0, 0, 0, 0);
  const found = [];
  if (step >= DAY) { // days may have 23 or 25 hours
    for (const when = first; when <= to; when.setDate(when.getDate() + step / DAY)) {
      if (when >= from) found.push(when / 1000);
    }
  } else {
    const start = first.getTime();
    for (let at = start + step * Math.ceil((from - start) / step); at <= to; at += step) found.push(at / 1000);
  }
  return { at: found, step };
}
