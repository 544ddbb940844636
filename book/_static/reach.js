// What is wider than the page is reached by keys, too. The theme sees to it for code, outputs and tables, when a page is loaded
// or a window changes its size, but not for formulas, and not when something is unfolded.
(() => {
  const look = () => {
    for (const box of document.querySelectorAll("article .math")) {
      const pushed = ["auto", "scroll"].includes(getComputedStyle(box).overflowX) && box.scrollWidth > box.clientWidth + 1;
      if (pushed) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  let waiting;
  const soon = () => {
    clearTimeout(waiting);
    waiting = setTimeout(look, 300);
  };
  const unfolded = () => window.dispatchEvent(new Event("resize"));
  window.addEventListener("resize", soon);
  window.addEventListener("load", () => (window.MathJax?.startup?.promise ?? Promise.resolve()).then(unfolded));
  document.addEventListener("toggle", unfolded, true); // of a details element, which does not bubble
  document.addEventListener("click", ({ target }) => {
    if (target.closest?.(".toggle-button, .tag_hide_input, .tag_hide_output, .admonition-title")) setTimeout(unfolded, 0);
  });
})();
