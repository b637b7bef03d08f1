// Sorting and filtering of tables, and opening what a link leads to. The page is complete without it.
"use strict";
for (const table of document.querySelectorAll("table.data")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  if (rows.length < 2) continue;
  const original = [...rows];
  // What is sorted is what is read: numbers by value, "-" last, everything else as text.
  const key = (row, k) => {
    const text = row.cells[k].textContent.trim();
    const number = Number(text.replaceAll(",", ""));
    return text === "-" || text === "" ? null : Number.isNaN(number) ? text.toLowerCase() : number;
  };
  const compare = (a, b) =>
    a === null || b === null ? (a === null) - (b === null)
    : typeof a === typeof b ? (a > b) - (a < b)
    : typeof a === "number" ? -1 : 1;
  table.querySelectorAll("thead th").forEach((head, k) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const was = head.getAttribute("aria-sort");
      const next = was === null ? "ascending" : was === "ascending" ? "descending" : null;
      for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
      if (next) head.setAttribute("aria-sort", next);
      const keyed = original.map((row) => [key(row, k), row]);
      // Empty cells stay last in both directions.
      if (next) keyed.sort(([a], [b]) => (a === null || b === null || next === "ascending" ? compare(a, b) : compare(b, a)));
      body.append(...keyed.map(([, row]) => row));
    });
  });
  if (rows.length < 8) continue;
  const find = document.createElement("input");
  find.type = "search";
  find.className = "find";
  find.placeholder = `Filter ${rows.length} rows`;
  find.setAttribute("aria-label", find.placeholder);
  find.addEventListener("input", () => {
    const wanted = find.value.trim().toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
  table.closest(".scroll").before(find);
}
const open = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  if (target) target.scrollIntoView();
};
addEventListener("hashchange", open);
if (location.hash) open();
