"use strict";
// One photo at a time. The server holds the answers; the page shows them and sends each one at once.
const $ = (id) => document.getElementById(id);
let state, at = 0, marked = 0, answers = {}, zoomed = false, asked = false;

async function call(path, body) {
  const options = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    throw new Error("The page's program has ended. What was answered is in the table: start it again.");
  }
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

function tell(text, wrong = false) {
  $("said").textContent = text;
  $("said").classList.toggle("wrong", wrong);
}

// one after the other, in the order of the keys: a fast hand must not answer for the next photo
let line = Promise.resolve();
const inTurn = (work) => (line = line.then(work).catch((error) => tell(error.message, true)));

const shown = () => {
  const which = $("which").value;
  return state.photos.map((_, n) => n).filter((n) =>
    which === "all" || (which === "open" ? !state.answered[n] : state.apart[n]));
};

function step(direction) {
  const numbers = shown();
  const next = direction > 0 ? numbers.find((n) => n > at) : numbers.filter((n) => n < at).pop();
  if (next === undefined) return tell(direction > 0 ? "This is the last one." : "This is the first one.");
  return show(next);
}

async function show(number) {
  at = number;
  marked = 0;
  asked = false;
  zoom(false);
  $("shapes").replaceChildren();
  $("opinions").hidden = true;
  $("ask").setAttribute("aria-pressed", "false");
  $("name").textContent = `${at + 1}: ${state.photos[at]}`;
  $("photo").alt = state.photos[at];
  $("trouble").hidden = true;
  $("photo").hidden = false;
  $("photo").src = `photos/${at}`;
  tell("");
  take(await call(`answers/${at}`));
}

function take(about) {
  answers = about.answers;
  state.answered[at] = state.columns.some((column) => answers[column.name]);
  const apart = about.beside && state.columns.filter((c) => about.beside[c.name] && about.beside[c.name] !== answers[c.name]);
  if (about.beside) state.apart[at] = apart.length > 0;
  $("beside").hidden = !about.beside;
  if (about.beside) $("beside").textContent = apart.length
    ? `${state.beside} says: ` + apart.map((c) => `${c.name} ${about.beside[c.name]}`).join(", ")
    : `${state.beside} says the same.`;
  draw();
}

function draw() {
  const done = state.answered.filter(Boolean).length;
  $("progress").textContent = `${done} of ${state.photos.length} answered`;
  $("bar").max = state.photos.length;
  $("bar").value = done;
  $("doubtful").setAttribute("aria-pressed", String(answers.doubtful === "1"));
  if (document.activeElement !== $("note")) $("note").value = answers.note || "";
  $("questions").replaceChildren(...state.columns.map(question));
}

const caption = (column, word) => (column === "keep" ? { 1: "yes", 0: "no" }[word] : word);
const keyOf = (column, place) => (column.words.every((word) => /^[0-9]$/.test(word)) ? column.words[place] : String(place + 1));

function question(column, place) {
  const box = document.createElement("fieldset");
  box.classList.toggle("marked", place === marked);
  const legend = document.createElement("legend");
  legend.textContent = column.name.replaceAll("_", " ") + (column.name === "keep" ? ": does it belong in the set?" : "");
  box.append(legend);
  if (column.words === null) {
    const input = document.createElement("input");
    Object.assign(input, { type: "number", min: 0, value: answers[column.name] || "" });
    input.setAttribute("aria-label", column.name);
    input.onchange = () => inTurn(() => send(column, input.value));
    box.append(input, " a digit, or typed here");
  } else {
    column.words.forEach((word, index) => {
      const button = document.createElement("button");
      const cap = document.createElement("kbd");
      cap.textContent = keyOf(column, index);
      button.append(cap, ` ${caption(column.name, word)}`);
      button.classList.toggle("chosen", answers[column.name] === word);
      button.onclick = () => inTurn(() => { marked = place; return send(column, word); });
      box.append(button);
    });
  }
  return box;
}

async function send(column, word) {
  take(await call(`answers/${at}`, { [column.name]: word }));
  tell("");
  if (!word) return;
  if (marked + 1 < state.columns.length) {
    marked += 1;
    draw();
  } else if (!state.beside) {
    await step(1);
  }
}

async function undo() {
  const { number } = await call("undo", {});
  if (number === null) return tell("There is nothing to take back since the page was started.");
  await show(number);
  tell("The last answer is taken back.");
}

function zoom(on) {
  zoomed = on;
  $("frame").classList.toggle("zoomed", on);
  $("zoom").setAttribute("aria-pressed", String(on));
}

async function ask() {
  asked = !asked;
  $("ask").setAttribute("aria-pressed", String(asked));
  $("opinions").hidden = !asked;
  $("shapes").replaceChildren();
  if (!asked) return;
  $("opinions").textContent = "The filters look at it…";
  const number = at, said = await call(`filters/${number}`);
  if (number !== at || !asked) return;
  const list = document.createElement("ul");
  for (const opinion of said) {
    const item = document.createElement("li");
    item.className = opinion.says.split(" ")[0];
    item.textContent = [`${opinion.name} ${opinion.says}`, opinion.why, ...opinion.evidence].filter(Boolean).join("; ");
    list.append(item);
    for (const outline of opinion.outlines) {
      const shape = document.createElementNS("http://www.w3.org/2000/svg", "polygon");
      shape.setAttribute("points", outline.corners.map((corner) => corner.join(",")).join(" "));
      shape.classList.toggle("counts", outline.counts);
      $("shapes").append(shape);
    }
  }
  $("opinions").replaceChildren(list);
}

$("photo").onerror = async () => {
  $("photo").hidden = true;
  $("trouble").hidden = false;
  $("trouble").textContent = await (await fetch($("photo").src)).text();
};
$("back").onclick = () => inTurn(() => step(-1));
$("next").onclick = () => inTurn(() => step(1));
$("undo").onclick = () => inTurn(undo);
$("ask").onclick = () => inTurn(ask);
$("zoom").onclick = () => {
  zoom(!zoomed);
  if (zoomed) $("photo").src = `photos/${at}?full`;
};
$("doubtful").onclick = () => inTurn(async () =>
  take(await call(`answers/${at}`, { doubtful: answers.doubtful === "1" ? "" : "1" })));
$("note").onchange = () => inTurn(async () => take(await call(`answers/${at}`, { note: $("note").value })));
$("which").onchange = () => inTurn(() => {
  $("which").blur();
  const numbers = shown();
  return numbers.length ? show(numbers.find((n) => n >= at) ?? numbers[0]) : tell("There is none.");
});
$("agreement").ontoggle = () => inTurn(async () => {
  const lines = (await call("agreement")).map((text) => Object.assign(document.createElement("li"), { textContent: text }));
  $("agreement").querySelector("ul").replaceChildren(...lines);
});

let drag = null;
$("frame").onpointerdown = (event) => {
  if (zoomed) drag = { x: event.clientX + $("frame").scrollLeft, y: event.clientY + $("frame").scrollTop };
};
window.onpointerup = () => (drag = null);
window.onpointermove = (event) => drag && $("frame").scrollTo(drag.x - event.clientX, drag.y - event.clientY);
$("photo").ondragstart = () => false;

function mark(direction) {
  marked = (marked + direction + state.columns.length) % state.columns.length;
  draw();
}

function digit(key) {
  const column = state.columns[marked];
  if (column.words === null) return send(column, key);
  const place = column.words.findIndex((_, index) => keyOf(column, index) === key);
  return place < 0 ? tell(`${column.name} has no answer ${key}.`) : send(column, column.words[place]);
}

const KEYS = {
  ArrowLeft: () => step(-1), ArrowRight: () => step(1), ArrowUp: () => mark(-1), ArrowDown: () => mark(1),
  Backspace: () => send(state.columns[marked], ""), u: undo, f: ask, z: () => $("zoom").click(),
  d: () => $("doubtful").click(), n: () => $("note").focus(),
};
document.onkeydown = (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input")) {
    if (event.key === "Enter" || event.key === "Escape") event.target.blur();
    return;
  }
  if (event.target.matches("select")) return;
  const work = /^[0-9]$/.test(event.key) ? () => digit(event.key) : KEYS[event.key];
  if (!work) return;
  event.preventDefault();
  inTurn(work);
};

inTurn(async () => {
  state = await call("state");
  $("table").textContent = state.table;
  $("agreement").hidden = !state.beside;
  const first = state.answered.indexOf(false);
  await show(Math.max(0, first));
});
