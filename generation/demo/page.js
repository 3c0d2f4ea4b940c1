// What gradio's page lacks: it says when the program does not answer, and comes back by itself; it says what to do with a
// file that is too large; Ctrl+Enter draws.
(() => {
  const tab = window.sessionStorage; // of this tab only, and gone with it
  const notice = () => document.getElementById("notice");
  const prompts = () => [...document.querySelectorAll("#prompt textarea, #negative textarea")];
  let program = null; // differs after a restart
  let lost = false;

  const say = (text) => {
    if (!notice()) return;
    notice().textContent = text;
    notice().hidden = !text;
  };

  const watch = async () => {
    const answer = await fetch("gradio_api/app_id", { cache: "no-store", signal: AbortSignal.timeout(10_000) })
      .then((response) => response.json())
      .catch(() => null);
    if (answer === null) {
      lost = true;
      say("The program does not answer. This page comes back by itself when it does.");
    } else if (program !== null && answer.app_id !== program) {
      window.location.reload();
      return;
    } else {
      if (lost) say("");
      lost = false;
      program = answer.app_id;
    }
    window.setTimeout(watch, 2000);
  };

  // gradio reloads the page as well, when the news of a drawing broke off: what was written is put back
  window.addEventListener("pagehide", () => {
    const broken = lost || /connection.*lost/i.test(document.querySelector(".toast-wrap")?.textContent);
    tab.setItem("prompts", JSON.stringify(prompts().map((box) => box.value)));
    if (broken) tab.setItem("broken", "yes");
  });
  const restore = () => {
    if (prompts().length < 1 || !notice()) return window.setTimeout(restore, 100);
    JSON.parse(tab.getItem("prompts") ?? "[]").forEach((text, place) => {
      const box = prompts()[place];
      if (!box || box.value === text) return;
      box.value = text;
      box.dispatchEvent(new Event("input", { bubbles: true }));
    });
    if (tab.getItem("broken")) say("The connection was lost and is back. Add the photo again, then press Draw.");
    tab.removeItem("broken");
    watch();
  };
  restore();

  window.addEventListener("pointerdown", () => lost || say(""));

  const refuseLarge = (event) => {
    const files = [...(event.dataTransfer?.files ?? event.target.files ?? [])];
    if (!files.some((file) => file.size > window.gradio_config.max_file_size)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    say("The photo has more than 20 MB: save a smaller copy of it, as JPEG, and add that.");
  };
  for (const way of ["change", "drop"]) document.addEventListener(way, refuseLarge, true);

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    document.getElementById("draw")?.click();
  });
})();
