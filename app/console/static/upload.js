// Files by drag and drop, in parts: what a refresh or a broken line cut off goes on where it was.
"use strict";

const PART_BYTES = 4 * 2 ** 20;
const drop = document.getElementById("drop");
const chosen = document.getElementById("chosen");
const list = document.getElementById("uploads");

/** The uploads that this browser began and did not finish: by name, size and time of the file. */
const unfinished = {
  key: (file, purpose) => JSON.stringify([file.name, file.size, file.lastModified, purpose]),
  all: () => JSON.parse(localStorage.getItem("uploads") ?? "{}"),
  put(key, id) {
    localStorage.setItem("uploads", JSON.stringify({ ...this.all(), [key]: id }));
  },
  drop(key) {
    const { [key]: _, ...others } = this.all();
    localStorage.setItem("uploads", JSON.stringify(others));
  },
};

/** A row of the list: name, state, bar, a button. */
function row(name) {
  const item = document.createElement("li");
  item.innerHTML = '<div class="line"><span class="grow name"></span><span class="quiet small state"></span><button class="link"></button></div><progress max="1" value="0"></progress>';
  item.querySelector(".name").textContent = name;
  item.querySelector("progress").setAttribute("aria-label", name);
  list.prepend(item);
  const state = item.querySelector(".state");
  const button = item.querySelector("button");
  return {
    item,
    button,
    say: (text) => (state.textContent = text),
    done: (share) => (item.querySelector("progress").value = share),
  };
}

/** The upload to go on with, if the service still waits for its parts; else a new one. */
async function begin(file, purpose) {
  const key = unfinished.key(file, purpose);
  const known = unfinished.all()[key];
  if (known) {
    const upload = await api("GET", `/v1/uploads/${known}`).catch(() => null);
    if (upload?.status === "pending") return upload;
    unfinished.drop(key);
  }
  const upload = await api("POST", "/v1/uploads", {
    filename: file.name, purpose, bytes: file.size, mime_type: file.type || "application/octet-stream",
  });
  unfinished.put(key, upload.id);
  return upload;
}

/** Sends what has not come yet, part by part, and completes the upload. */
async function send(file, purpose, shown, signal) {
  const upload = await begin(file, purpose);
  const parts = upload.parts.map((part) => part.id);
  let sent = upload.bytes_received;
  while (sent < file.size) {
    shown.done(sent / file.size);
    shown.say(say("sent", { percent: Math.floor((100 * sent) / file.size) }));
    const form = new FormData();
    form.append("data", file.slice(sent, sent + PART_BYTES), file.name);
    const part = await api("POST", `/v1/uploads/${upload.id}/parts`, form, { signal });
    parts.push(part.id);
    sent += part.bytes;
  }
  shown.done(1);
  shown.say(say("putting_together"));
  const whole = await api("POST", `/v1/uploads/${upload.id}/complete`, { part_ids: parts });
  unfinished.drop(unfinished.key(file, purpose));
  return whole.file;
}

async function take(file) {
  const purpose = document.getElementById("purpose").value;
  const shown = row(file.name);
  if (file.size === 0) return shown.say(say("empty_file"));
  const attempt = async () => {
    const stop = new AbortController();
    shown.button.textContent = say("pause");
    shown.button.onclick = () => stop.abort();
    try {
      location.assign(`/console/files/${(await send(file, purpose, shown, stop.signal)).id}`);
    } catch (error) {
      shown.say(error.name === "AbortError" ? say("paused") : error.message);
      shown.button.textContent = say("go_on");
      shown.button.onclick = attempt;
    }
  };
  await attempt();
}

if (drop) {
  document.getElementById("choose").addEventListener("click", () => chosen.click());
  chosen.addEventListener("change", () => [...chosen.files].forEach(take));
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    [...event.dataTransfer.files].forEach(take);
  });
  for (const [key, id] of Object.entries(unfinished.all())) {
    const [name] = JSON.parse(key);
    const shown = row(name);
    shown.say(say("choose_again"));
    shown.button.textContent = say("forget");
    shown.button.onclick = async () => {
      unfinished.drop(key);
      shown.item.remove();
      await api("POST", `/v1/uploads/${id}/cancel`).catch(() => null);
    };
  }
}
