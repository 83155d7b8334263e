// What is wider than its place says so: on a phone nothing else tells that a table goes on.
(() => {
  const boxes = ".mergebook-scroll, .pst-scrollable-table-container, figure.mergebook, .method-picture";
  const look = (box) => box.classList.toggle("scrolls", box.scrollWidth > box.clientWidth + 2);
  const watch = new ResizeObserver((changes) => changes.forEach(({ target }) => look(target)));

  document.addEventListener("DOMContentLoaded", () => {
    for (const box of document.querySelectorAll(boxes)) {
      watch.observe(box);
      for (const inner of box.querySelectorAll("table, img")) {
        inner.addEventListener("load", () => look(box)); // pictures come late, and widen their box
      }
    }
  });
})();
