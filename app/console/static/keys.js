// A new key's secret is in the answer and nowhere else: it is shown until the dialog closes.
"use strict";

const dialog = document.getElementById("new-key");
dialog.addEventListener("answered", (event) => {
  const made = document.getElementById("made");
  made.hidden = false;
  made.querySelector("code").textContent = event.detail.key;
});
dialog.addEventListener("close", () => {
  if (!document.getElementById("made").hidden) location.reload();
});
