// Requests to the interface. What goes wrong is said in words.

/** Post JSON; the answer, or an Error whose message is for people. */
export async function post(path, content) {
  let answer;
  try {
    answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Nearfar": "1" },
      body: JSON.stringify(content),
    });
  } catch {
    throw new Error("No connection to the server. Nothing was changed; try again.");
  }
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(words(told, answer.status));
  return told;
}

/** Get JSON; an Error if it is not given. */
export async function get(path, options = {}) {
  const answer = await fetch(path, { headers: { Accept: "application/json" }, ...options });
  if (!answer.ok) throw new Error(words(await answer.json().catch(() => ({})), answer.status));
  return answer.json();
}

function words(told, status) {
  if (typeof told.error === "string") return [told.error, told.hint].filter(Boolean).join(" ");
  return `The server refused (HTTP ${status}).`;
}
