// What people do: acknowledge, shelve, comment, and so on. Each is asked for in a dialog, with a comment and, the first
// time, a name; while it is on its way its button is disabled; what goes wrong is said in the dialog.

import { get, post } from "./asking.js";
import { actor, remember } from "./settings.js";
import { toast } from "./toasts.js";

const SPANS = { 1: "1 hour", 8: "8 hours", 24: "24 hours", once: "until it is over" };
const LEARNING = 1500; // ms between two questions whether learning has ended

const ACTIONS = {
  acknowledge: { title: "Acknowledge", text: "You have seen the alert and take care of it.", done: "Acknowledged." },
  comment: { title: "Comment", text: "What you found, for those who come after you.", done: "Comment written.", needsComment: true },
  shelve: {
    title: "Shelve", text: "For a while nobody is told of this condition of this machine. It goes on being watched.",
    fields: ["shelve"], undo: "unshelve",
    content: (form) => (form.span.value === "once" ? { one_shot: true } : { hours: Number(form.span.value) }),
    says: (form) => `Shelved ${form.span.value === "once" ? "" : "for "}${SPANS[form.span.value]}.`,
  },
  unshelve: { title: "Unshelve", text: "From now on people are told of this condition again.", done: "Unshelved." },
  "out-of-service": {
    title: "Take out of service", text: "Until you return it to service, nobody is told of this condition of this machine.",
    done: "Out of service.", undo: "in-service",
  },
  "in-service": { title: "Return to service", text: "From now on people are told of this condition again.", done: "In service." },
  normal: {
    title: "This was normal", text: "The sound is kept for the detector to learn. It learns when you ask for it, on the page of the machine.",
    done: "Marked as normal.",
  },
  learn: {
    title: "Learn", text: "The detector is fitted again, with the recordings that were marked normal. This takes a while.",
    done: "Learning has begun.", noComment: true,
  },
};

let pressed = null; // the button whose action is asked for

export function startActions() {
  const dialog = document.getElementById("ask");
  const form = dialog.querySelector("form");
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-act]");
    if (button) open(dialog, form, button);
  });
  dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(dialog, form);
  });
}

function open(dialog, form, button) {
  pressed = button;
  const action = ACTIONS[button.dataset.act];
  form.reset();
  dialog.querySelector("h2").textContent = action.title;
  dialog.querySelector("[data-text]").textContent = action.text;
  dialog.querySelector("[data-submit]").textContent = action.title;
  only(dialog, "shelve", action.fields?.includes("shelve"));
  only(dialog, "by", actor() === "");
  only(dialog, "comment", !action.noComment);
  form.comment.required = Boolean(action.needsComment);
  form.by.required = actor() === "";
  say(dialog, "");
  dialog.showModal();
  const first = form.by.required ? form.by : action.needsComment ? form.comment : dialog.querySelector("[data-submit]");
  first.focus();
}

function only(dialog, name, shown) {
  dialog.querySelector(`[data-only="${name}"]`).hidden = !shown;
}

function say(dialog, words) {
  const wrong = dialog.querySelector("[data-wrong]");
  wrong.hidden = words === "";
  wrong.textContent = words;
}

async function send(dialog, form) {
  const { act, path } = pressed.dataset;
  const action = ACTIONS[act];
  if (form.by.required) remember(form.by.value);
  const content = { ...who(), ...action.content?.(form) };
  if (!action.noComment) content.comment = form.comment.value.trim();
  const buttons = [pressed, dialog.querySelector("[data-submit]")];
  const disable = (yes) => buttons.forEach((button) => { button.disabled = yes; });
  disable(true);
  try {
    await post(path, content);
    disable(false); // before the dialog gives the focus back
    dialog.close();
    toast(action.says?.(form) ?? action.done, action.undo && (() => takeBack(path.replace(/[^/]+$/, action.undo))));
    document.dispatchEvent(new CustomEvent("nearfar:acted"));
    if (act === "learn") followLearning(path);
  } catch (error) {
    say(dialog, error.message);
  } finally {
    disable(false);
  }
}

const who = () => (document.body.dataset.by === undefined ? { by: actor() } : {});

async function takeBack(path) {
  try {
    await post(path, { ...who(), comment: "" });
    toast("Taken back.");
    document.dispatchEvent(new CustomEvent("nearfar:acted"));
  } catch (error) {
    toast(error.message);
  }
}

async function followLearning(path) {
  for (;;) {
    await new Promise((done) => setTimeout(done, LEARNING));
    try {
      const { state, told } = await get(path);
      if (state === "running") continue;
      toast(told || (state === "failed" ? "Learning failed." : "Learnt."));
      document.dispatchEvent(new CustomEvent("nearfar:acted"));
    } catch (error) {
      toast(error.message);
    }
    return;
  }
}
