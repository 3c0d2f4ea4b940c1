"use strict";
// Blind votes: pairs of pictures of one reference, prompt and seed, by two methods, in random order. Nothing in the dialog
// says whose a picture is. Votes stay in memory until they are exported as a file.
const shuffled = (items) => {
  const order = [...items];
  for (let at = order.length - 1; at > 0; at--) {
    const other = Math.floor(Math.random() * (at + 1));
    [order[at], order[other]] = [order[other], order[at]];
  }
  return order;
};

// pictures of the same bytes are no choice
const waiting = shuffled(data.rows.flatMap((row) => row.cells.flatMap((one, place) => row.cells
  .map((other, at) => [row, place, at])
  .filter(([, , at]) => at > place && one.shown !== null && row.cells[at].shown !== null && one.sha256 !== row.cells[at].sha256)
))).map(([row, one, other]) => ({ row, sides: shuffled([one, other]) }));
const votes = [];
const voter = crypto.getRandomValues(new Uint32Array(4)).reduce((text, part) => text + part.toString(16).padStart(8, "0"), "");
let exported = 0;

const now = () => waiting[votes.length];
const side = (row, place) => ({ method: data.methods[place], sha256: row.cells[place].sha256 });

function show() {
  $("votes").textContent = `${votes.length} of ${waiting.length} pairs` + (votes.length > exported ? ", not exported yet" : "");
  $("begin").disabled = !now();
  $("export").disabled = !votes.length;
  const pair = now();
  if (!pair) return $("blind").close();
  $("asked").textContent = pair.row.words ? `“${pair.row.words}”` : "";
  $("shown-reference").src = pair.row.shown === null ? "" : data.pictures[pair.row.shown];
  $("shown-left").src = data.pictures[pair.row.cells[pair.sides[0]].shown];
  $("shown-right").src = data.pictures[pair.row.cells[pair.sides[1]].shown];
  $("left-over").textContent = `${votes.length + 1} of ${waiting.length}`;
}

function vote(won) {
  const { row, sides } = now();
  votes.push({ reference: row.reference, prompt: row.prompt, seed: row.seed, left: side(row, sides[0]), right: side(row, sides[1]), won });
  show();
}

function takeBack() {
  votes.pop();
  exported = Math.min(exported, votes.length);
  show();
}

const KEYS = { 1: "left", ArrowLeft: "left", 2: "right", ArrowRight: "right", 0: "tie", " ": "tie" };
$("blind").addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Backspace") takeBack();
  else if (KEYS[event.key] && now()) vote(KEYS[event.key]);
  else return;
  event.preventDefault(); // a space would also press the button that has the focus
});
for (const won of ["left", "right", "tie"]) $(`vote-${won}`).onclick = () => vote(won);
$("undo").onclick = takeBack;
$("stop").onclick = () => $("blind").close();
$("begin").onclick = () => { show(); $("blind").showModal(); };
$("export").onclick = () => {
  const file = new Blob([JSON.stringify({ format: 1, voter, votes }, null, 1)], { type: "application/json" });
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(file), download: `votes-${voter.slice(0, 8)}.json` });
  link.click();
  URL.revokeObjectURL(link.href);
  exported = votes.length;
  show();
};
window.onbeforeunload = (event) => { if (votes.length > exported) event.preventDefault(); };
show();
