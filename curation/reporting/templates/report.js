// The page can be read without this: it only lets a threshold be dragged to see what would be kept.
document.documentElement.classList.add("js");
for (const input of document.querySelectorAll(".slider input")) {
  const facts = JSON.parse(input.dataset.at);
  const line = input.closest(".plot").querySelector(".line");
  const output = input.parentElement.querySelector("output");
  const home = +input.value, x0 = line.getAttribute("transform"), label = line.querySelector("text"), word = label.textContent;
  input.addEventListener("input", () => {
    const i = +input.value, same = i === home;
    line.setAttribute("transform", same ? x0 : `translate(${facts.x[i]} 0)`);
    label.setAttribute("text-anchor", facts.x[i] > 264 ? "end" : "start");
    label.setAttribute("x", facts.x[i] > 264 ? -5 : 5);
    label.textContent = same ? word : `moved to ${facts.at[i]}`;
    const change = facts.kept[i] - facts.kept[home];
    output.textContent = `${facts.kept[i].toLocaleString("en")} kept`
      + (change ? ` (${change > 0 ? "+" : "−"}${Math.abs(change).toLocaleString("en")})` : " here; drag to try another threshold")
      + (facts.open[i] ? `, ${facts.open[i].toLocaleString("en")} not known` : "");
  });
}
