// Two versions of a conversation beside each other: what differs is marked, character by character.
"use strict";

/** Puts a turn's text back with marks on what the other side does not have. */
function marked(turn, changes, side) {
  const who = turn.querySelector(".who");
  turn.replaceChildren(who);
  for (const change of changes) {
    if (change[side === "out" ? "added" : "removed"]) continue;
    const isMarked = change[side === "out" ? "removed" : "added"];
    const piece = document.createElement(isMarked ? "mark" : "span");
    if (isMarked) piece.className = side;
    piece.textContent = change.value;
    turn.append(piece);
  }
}

const textOf = (turn) => [...turn.childNodes].slice(1).map((node) => node.textContent).join("");

for (const pair of document.querySelectorAll("[data-compared]")) {
  const [before, after] = [...pair.children].map((side) => [...side.querySelectorAll(".turn")]);
  const pairs = Diff.diffArrays(before.map(textOf), after.map(textOf));
  let [left, right] = [0, 0];
  for (let place = 0; place < pairs.length; place++) {
    const { count, added, removed } = pairs[place];
    if (!added && !removed) {
      left += count;
      right += count;
      continue;
    }
    const next = pairs[place + 1];
    const isEdit = removed && next?.added;
    const num = isEdit ? Math.min(count, next.count) : 0;
    for (let turn = 0; turn < num; turn++) {
      const changes = Diff.diffChars(textOf(before[left + turn]), textOf(after[right + turn]));
      marked(before[left + turn], changes, "out");
      marked(after[right + turn], changes, "in");
    }
    const whole = (turn, side) => marked(turn, [{ value: textOf(turn), [side === "out" ? "removed" : "added"]: true }], side);
    if (removed) before.slice(left + num, left + count).forEach((turn) => whole(turn, "out"));
    const numAdded = isEdit ? next.count : added ? count : 0;
    if (numAdded) after.slice(right + num, right + numAdded).forEach((turn) => whole(turn, "in"));
    left += removed ? count : 0;
    right += numAdded;
    if (isEdit) place++;
  }
}
