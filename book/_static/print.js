// Folded panels of results are open on paper, and as the reader left them afterwards.
(() => {
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details.mergebook:not([open])")];
    for (const panel of opened) panel.open = true;
  });
  addEventListener("afterprint", () => {
    for (const panel of opened) panel.open = false;
    opened = [];
  });
})();
