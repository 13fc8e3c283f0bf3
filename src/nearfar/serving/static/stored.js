// What this browser remembers. Where storage is forbidden, it remembers until the page is left.

const PREFIX = "nearfar.";
const meanwhile = new Map();

export function stored(key) {
  try {
    return localStorage.getItem(PREFIX + key) ?? "";
  } catch {
    return meanwhile.get(key) ?? "";
  }
}

export function store(key, value) {
  try {
    if (value === "") localStorage.removeItem(PREFIX + key);
    else localStorage.setItem(PREFIX + key, value);
  } catch {
    meanwhile.set(key, value);
  }
}
