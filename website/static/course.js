// What pages do beside being read: tables sort, diagrams are drawn, tools start. Everything comes from this site.
"use strict";

const HERE = new URL(".", document.currentScript.src);

function load(name) {
  return new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = new URL(name, HERE);
    script.onload = done;
    script.onerror = failed;
    document.head.append(script);
  });
}

// Tables whose headings sort them: by number where all cells of a column are numbers.
function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const rows = [...table.tBodies[0].rows];
      const numbers = rows.every((row) => value(row) !== "" && !isNaN(value(row)));
      rows.sort((a, b) => (numbers ? value(a) - value(b) : value(a).localeCompare(value(b))) * (down ? -1 : 1));
      table.tBodies[0].append(...rows);
    });
  });
}

// Diagrams, in the theme's colours; drawn again when the theme changes.
async function diagrams() {
  const found = [...document.querySelectorAll("pre.mermaid")];
  if (!found.length) return;
  found.forEach((one) => (one.dataset.text = one.textContent));
  await load("vendor/mermaid.min.js");
  const draw = async () => {
    const dark = document.documentElement.dataset.theme === "dark";
    mermaid.initialize({ startOnLoad: false, theme: dark ? "dark" : "neutral", securityLevel: "strict" });
    for (const [number, one] of found.entries()) {
      one.innerHTML = (await mermaid.render(`diagram-${number}`, one.dataset.text)).svg;
    }
  };
  await draw();
  new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
}

// What the theme leaves without a name for those who hear a page: the arrows of its contents, and its search button.
function nameTheme() {
  document.querySelectorAll("nav summary").forEach((one) => {
    const link = one.closest("li")?.querySelector("a");
    if (link && !one.textContent.trim()) one.setAttribute("aria-label", link.textContent.trim());
  });
  document.querySelectorAll(".search-button-field").forEach((one) => one.removeAttribute("aria-label"));
}

// The theme takes the focus off its buttons when they are pressed; who pressed by keys keeps it, and goes on from there.
function keepFocus() {
  document.querySelectorAll(".theme-switch-button, .search-button, .sidebar-toggle").forEach((one) => {
    one.blur = () => one.matches(":focus-visible") || HTMLElement.prototype.blur.call(one);
  });
  document.addEventListener("hidden.bs.dropdown", (event) => {
    if (event.target.parentElement.contains(document.activeElement)) event.target.focus();
  });
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("table.sortable").forEach(sortable);
  // A region that scrolls has to be reachable by keys.
  document.querySelectorAll(".bd-article pre, .output.text_html, .pst-scrollable-table-container").forEach((one) => {
    if (one.scrollWidth > one.clientWidth) one.tabIndex = 0;
  });
  nameTheme();
  keepFocus();
  diagrams();
  if (document.querySelector("[data-tool]")) load("tools.js");
});
