// A short sound and a notification of the system when an alert comes: only if this browser was asked for them.

import { stored } from "./stored.js";

export function alarm(words) {
  if (stored("sound") === "yes") chime();
  if (stored("notify") === "yes" && "Notification" in window && Notification.permission === "granted") {
    new Notification("nearfar", { body: words, tag: "nearfar" });
  }
}

/** Two soft tones, a fourth apart. */
export function chime() {
  const context = new AudioContext();
  const now = context.currentTime;
  [660, 880].forEach((frequency, index) => {
    const [tone, gain] = [context.createOscillator(), context.createGain()];
    const begin = now + 0.22 * index;
    tone.frequency.value = frequency;
    gain.gain.setValueAtTime(0, begin);
    gain.gain.linearRampToValueAtTime(0.2, begin + 0.02);
    gain.gain.exponentialRampToValueAtTime(0.001, begin + 0.5);
    tone.connect(gain).connect(context.destination);
    tone.start(begin);
    tone.stop(begin + 0.55);
  });
  setTimeout(() => context.close(), 1500);
}
