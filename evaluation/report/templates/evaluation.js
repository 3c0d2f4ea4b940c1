"use strict";
// Rows of pictures, one a reference, prompt and seed; sorted by any metric of any method.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const option = (value, text) => Object.assign(document.createElement("option"), { value, textContent: text });
$("metric").append(...Object.entries(data.sortedBy).map(([value, text]) => option(value, text)));
$("of").append(...data.methods.map((name, place) => option(place, name)));

for (const image of document.querySelectorAll("[data-picture]")) image.src = data.pictures[image.dataset.picture];

function picture(shown, why, note, marked) {
  const cell = document.createElement("td");
  if (shown !== null) {
    const image = Object.assign(document.createElement("img"), { src: data.pictures[shown], alt: note, loading: "lazy" });
    image.classList.toggle("by", marked);
    cell.append(image);
  } else {
    cell.append(Object.assign(document.createElement("div"), { className: "why", textContent: why || "no picture" }));
  }
  cell.append(note);
  return cell;
}

function draw() {
  const metric = $("metric").value, of = Number($("of").value);
  const sign = document.querySelector("[name=order]:checked").value === "worst" ? 1 : -1;
  const score = (row) => row.cells[of].scores[metric];
  // what has no number is the worst of all
  const rows = [...data.rows].sort((a, b) => sign * ((score(a) ?? -Infinity) - (score(b) ?? -Infinity)) || 0);
  const head = document.createElement("tr");
  for (const name of ["asked for", "reference", ...data.methods]) head.append(Object.assign(document.createElement("th"), { textContent: name }));
  const body = rows.map((row) => {
    const line = document.createElement("tr");
    line.append(Object.assign(document.createElement("td"), { textContent: [row.prompt, row.seed].filter(Boolean).join(" · ") || "-" }));
    line.append(picture(row.shown, "cannot be read", row.reference, false));
    row.cells.forEach((cell, place) => {
      const number = cell.scores[metric];
      line.append(picture(cell.shown, cell.why, number === undefined ? cell.why || "no number" : number.toFixed(3), place === of));
    });
    return line;
  });
  $("grid").replaceChildren(head, ...body);
  $("count").textContent = `${rows.length} rows`;
}
for (const control of document.querySelectorAll("select, input")) control.onchange = draw;
draw();
