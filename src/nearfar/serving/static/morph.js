// Take over what differs between the page as it is shown and the page as it is now, and nothing else: what has the focus
// keeps it, what plays goes on, what was unfolded stays so.
//
// In the markup: `data-key` names an element among its siblings; `data-keep` says that its content and attributes are
// made here and stay; `data-local="a b"` that these attributes are.

const ALWAYS_LOCAL = ["open", "title"];

export function morph(old, now) {
  if (old.nodeType === Node.ELEMENT_NODE) {
    if (old.hasAttribute("data-keep")) return copyData(old, now);
    const sameTime = old.localName === "time" && old.dateTime === now.dateTime;
    copyAttributes(old, now);
    if (!sameTime) morphChildren(old, now);
  } else if (old.nodeValue !== now.nodeValue) {
    old.nodeValue = now.nodeValue;
  }
  return undefined;
}

function copyData(old, now) {
  for (const { name, value } of now.attributes) {
    if ((name.startsWith("data-") || name === "src") && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
}

function copyAttributes(old, now) {
  const local = [...ALWAYS_LOCAL, ...(old.getAttribute("data-local") ?? "").split(" ")];
  if (old.localName === "button") local.push("disabled");
  for (const { name, value } of now.attributes) {
    if (!local.includes(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (!local.includes(name) && !now.hasAttribute(name)) old.removeAttribute(name);
  }
}

const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null);
const isSame = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);

function morphChildren(old, now) {
  const keyed = new Map();
  for (const child of old.children) if (keyOf(child) !== null) keyed.set(keyOf(child), child);
  let place = old.firstChild;
  for (const next of [...now.childNodes]) {
    const known = keyOf(next) === null ? null : keyed.get(keyOf(next));
    if (known && known.nodeName === next.nodeName) {
      if (known !== place) move(old, known, place);
      place = known.nextSibling;
      morph(known, next);
    } else if (place && isSame(place, next) && keyOf(next) === null) {
      const current = place;
      place = place.nextSibling;
      morph(current, next);
    } else {
      old.insertBefore(document.importNode(next, true), place);
    }
  }
  while (place) {
    const gone = place;
    place = place.nextSibling;
    gone.remove();
  }
}

// Moving an element stops what plays in it and takes the focus away: better to move all others, one by one
function move(parent, known, place) {
  const busy = (node) =>
    node.nodeType === Node.ELEMENT_NODE &&
    (node.contains(document.activeElement) || [...node.querySelectorAll("audio")].some((audio) => !audio.paused));
  if (!busy(known)) {
    parent.insertBefore(known, place);
    return;
  }
  // all that stands between goes behind it; what is still of use is moved to its place when its turn comes
  for (let between = place; between && between !== known; ) {
    const next = between.nextSibling;
    if (busy(between)) {
      parent.insertBefore(known, between);
      return;
    }
    parent.insertBefore(between, known.nextSibling);
    between = next;
  }
}
