"use strict";
(() => {
  const root = document.documentElement;
  const stored = (() => { try { return localStorage.getItem("cotenant-theme"); } catch { return null; } })();
  if (stored === "dark" || stored === "light") root.dataset.theme = stored;

  const isDark = () => root.dataset.theme
    ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;

  const themes = (button) => {
    const name = () => { button.textContent = isDark() ? "Light" : "Dark"; };
    button.setAttribute("aria-label", "Change between light and dark");
    name();
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      try { localStorage.setItem("cotenant-theme", root.dataset.theme); } catch { /* a page of a file may store nothing */ }
      name();
    });
  };

  const reveal = () => {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    if (!target) return;
    for (let node = target; node; node = node.parentElement) {
      node.hidden = false;
      if (node.tagName === "DETAILS") node.open = true;
    }
    const summary = target.closest("details")?.querySelector(":scope > summary");
    (summary ?? target).scrollIntoView({ block: "start" });
    summary?.focus({ preventScroll: true });
  };

  const filters = (form) => {
    const apply = () => {
      const verdicts = new Set([...form.querySelectorAll("input:checked")].map((box) => box.value));
      const row = form.elements.row.value, promise = form.elements.promise.value;
      let shown = 0, all = 0;
      for (const section of document.querySelectorAll("section.row")) {
        let any = false;
        for (const group of section.querySelectorAll("details.group")) {
          let here = 0;
          const fits = (!row || section.dataset.row === row) && (!promise || group.dataset.promise === promise);
          for (const cell of group.querySelectorAll(".cell")) {
            cell.hidden = !(fits && verdicts.has(cell.dataset.v));
            all += 1;
            here += cell.hidden ? 0 : 1;
          }
          group.hidden = here === 0;
          any ||= here > 0;
          shown += here;
        }
        section.hidden = !any;
      }
      form.querySelector("output").textContent = shown === all ? `all ${all} cells` : `${shown} of ${all} cells`;
    };
    form.addEventListener("change", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    apply();
  };

  const unfolding = (button) => {
    button.addEventListener("click", () => {
      const open = button.textContent === "Open all";
      for (const one of document.querySelectorAll("#cells details.group, #cells details.cell")) one.open = open;
      button.textContent = open ? "Close all" : "Open all";
    });
  };

  document.addEventListener("DOMContentLoaded", () => {
    for (const one of document.querySelectorAll(".js")) one.hidden = false;
    themes(document.getElementById("theme"));
    const form = document.querySelector("form.filter"), button = document.getElementById("unfold");
    if (form) filters(form);
    if (button) unfolding(button);
    for (const link of document.querySelectorAll("a[href^='#']")) {
      link.addEventListener("click", () => { if (link.hash === location.hash) reveal(); });
    }
    addEventListener("hashchange", reveal);
    reveal();
  });
})();
