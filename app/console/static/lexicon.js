// A word list tried on a text: what is found, and the text with it masked.
"use strict";

document.getElementById("try").addEventListener("answered", (event) => {
  const { matches, masked } = event.detail;
  const shown = document.getElementById("masked");
  shown.hidden = false;
  shown.textContent = masked;
  document.getElementById("matches").replaceChildren(...(matches.length ? matches : [null]).map((match) =>
    Object.assign(document.createElement("li"), { textContent: match ? `${match.text} → ${match.word} (${match.start}–${match.end})` : say("no_match") })));
});
