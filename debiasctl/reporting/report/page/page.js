"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");
  const said = document.querySelector(".said");
  const say = (text) => { said.textContent = text; };

  // The theme: the system's until it is chosen. A page opened from a file may not be allowed to remember.
  const toggle = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
  const name = () => {
    toggle.textContent = isDark() ? "Light" : "Dark";
    toggle.setAttribute("aria-label", isDark() ? "Switch to a light page" : "Switch to a dark page");
  };
  try {
    const kept = localStorage.getItem("debiasctl-theme");
    if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  } catch { /* not allowed here */ }
  toggle.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("debiasctl-theme", root.dataset.theme); } catch { /* not allowed here */ }
    name();
  });
  system.addEventListener("change", name);
  toggle.hidden = false;
  name();

  // Tables: a click sorts up, another down. Rows without a value stay last.
  const value = (row, index) => {
    const cell = row.cells[index];
    const text = cell.hasAttribute("data-sort") ? cell.getAttribute("data-sort") : cell.textContent.trim();
    const number = text === "" ? NaN : Number(text);
    return { text, number };
  };
  const compare = (one, other) => {
    if (!Number.isNaN(one.number) && !Number.isNaN(other.number)) return one.number - other.number;
    return one.text.localeCompare(other.text, "en", { numeric: true, sensitivity: "base" });
  };
  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, index) => {
      head.querySelector("button").addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows].map((row) => ({ row, key: value(row, index) }));
        rows.sort((one, other) => {
          if ((one.key.text === "") !== (other.key.text === "")) return one.key.text === "" ? 1 : -1;
          return (down ? -1 : 1) * compare(one.key, other.key);
        });
        table.tBodies[0].append(...rows.map(({ row }) => row));
        say(`Sorted by ${head.textContent.trim()}, ${down ? "descending" : "ascending"}`);
      });
    });
  }

  // A table that does not fit is scrolled within itself, by keyboard too.
  const watch = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  document.querySelectorAll(".scroll").forEach((one) => watch.observe(one));

  // Commands are copied, and figures and their data saved.
  for (const button of document.querySelectorAll("[data-copy]")) {
    const code = button.previousElementSibling;
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
        say("The command is copied");
        setTimeout(() => { button.textContent = "Copy"; }, 2000);
      } catch {
        getSelection().selectAllChildren(code);
        say("The command is selected: copy it with the keyboard");
      }
    });
  }
  const save = (text, type, file) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const parsed = (id) => JSON.parse(document.getElementById(id).textContent);
  for (const button of document.querySelectorAll("[data-save]")) {
    const figure = button.closest("figure");
    button.parentElement.hidden = false;
    button.addEventListener("click", () => {
      if (button.dataset.save === "svg") {
        const drawing = figure.querySelector("svg").cloneNode(true);
        drawing.setAttribute("font-family", "DejaVu Sans, Arial, sans-serif");
        save(new XMLSerializer().serializeToString(drawing), "image/svg+xml", `${figure.id}.svg`);
      } else {
        const title = figure.querySelector("h3").textContent;
        const command = figure.querySelector(".command code").textContent;
        const whole = { title, command, environment: parsed("environment--data"), data: parsed(`${figure.id}--data`) };
        save(JSON.stringify(whole, null, 1), "application/json", `${figure.id}.json`);
      }
    });
  }

  // Print shows what is folded; afterwards it is as it was.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details.folded:not([open])")];
    opened.forEach((one) => { one.open = true; });
  });
  addEventListener("afterprint", () => { opened.forEach((one) => { one.open = false; }); });
})();
