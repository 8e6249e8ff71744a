// A table that is wider than its place says so, keeps its first column in sight, and can be scrolled with the keyboard. Long paths
// in its cells may break, so that fewer tables are.
(function () {
  "use strict";
  const BOX = ".pst-scrollable-table-container";
  const WORDS = "This table goes on to the right: scroll it sideways.";

  function look(box) {
    const scrolls = box.scrollWidth > box.clientWidth + 1;
    if (scrolls === box.classList.contains("wide-scrolls")) return;
    box.classList.toggle("wide-scrolls", scrolls);
    const caption = box.querySelector("caption");
    if (!scrolls) {
      (caption || box.parentElement).querySelector(".wide-hint").remove();
      for (const name of ["tabindex", "role", "aria-label"]) box.removeAttribute(name);
      return;
    }
    const title = caption ? caption.textContent.trim().slice(0, 80) : "Table";
    for (const [name, value] of [["tabindex", "0"], ["role", "region"], ["aria-label", `${title}. ${WORDS}`]]) box.setAttribute(name, value);
    const said = document.createElement("span");
    said.className = "wide-hint";
    said.textContent = `${WORDS} →`;
    if (caption) caption.append(said);
    else box.before(said);
  }

  // a long path may break after a slash and before a capital, and is copied as it was
  function breakable(cell) {
    const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    const long = [];
    const path = (word) => word.length > 20 && word.includes("/");
    const parts = (word) => (path(word) ? word.split(/(?<=\/)|(?<=[a-z])(?=[A-Z])/) : [word]);
    while (texts.nextNode()) if (texts.currentNode.data.split(/\s/).some(path)) long.push(texts.currentNode);
    for (const text of long) {
      const words = text.data.split(/(?<=\s)/).map(parts);
      text.replaceWith(...words.flatMap((word) => word.flatMap((part, k) => (k ? [document.createElement("wbr"), part] : [part]))));
    }
  }

  function start() {
    document.querySelectorAll(`${BOX} td`).forEach(breakable);
    // the place may change (a window) and so may the table in it (a font that comes late)
    const seen = new ResizeObserver((entries) => entries.forEach((entry) => look(entry.target.closest(BOX))));
    document.querySelectorAll(BOX).forEach((box) => {
      look(box);
      seen.observe(box);
      seen.observe(box.querySelector("table"));
    });
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
