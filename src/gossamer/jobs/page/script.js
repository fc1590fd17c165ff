"use strict";
const tip = document.getElementById("tip");
const same = (id) => document.querySelectorAll(`[data-id="${CSS.escape(id)}"]`);

function show(event) {
  const mark = event.currentTarget;
  same(mark.dataset.id).forEach((node) => node.classList.add("lit"));
  if (!mark.dataset.tip) return;
  tip.textContent = mark.dataset.tip;
  tip.hidden = false;
  const box = mark.querySelector("path").getBoundingClientRect();
  const left = Math.min(box.right + 10, document.documentElement.clientWidth - tip.offsetWidth - 8);
  tip.style.left = `${Math.max(8, left) + window.scrollX}px`;
  tip.style.top = `${box.bottom + 8 + window.scrollY}px`;
}

function hide(event) {
  same(event.currentTarget.dataset.id).forEach((node) => node.classList.remove("lit"));
  tip.hidden = true;
}

for (const node of document.querySelectorAll("[data-id]")) {
  for (const name of ["mouseenter", "focus"]) node.addEventListener(name, show);
  for (const name of ["mouseleave", "blur"]) node.addEventListener(name, hide);
}

function sortBy(header) {
  const table = header.closest("table");
  const body = table.tBodies[0];
  const index = header.cellIndex;
  const up = header.getAttribute("aria-sort") !== "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = (row) => row.cells[index].dataset.value;
  const rows = [...body.rows].sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === "" || y === "") return (x === "") - (y === "");
    const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
    return up ? order : -order;
  });
  body.append(...rows);
}

for (const button of document.querySelectorAll(".sortable th button")) {
  button.addEventListener("click", () => sortBy(button.closest("th")));
}
document.documentElement.dataset.ready = "yes";
