// The theme lets keys reach code, outputs and tables that are wider than the page, and looks for them when a page is loaded or a
// window changes its size. What is folded has no width, so it looks again when something is unfolded. (Formulas are reached as
// they are: MathJax sees to it.)
(() => {
  const again = () => window.dispatchEvent(new Event("resize"));
  document.addEventListener("toggle", again, true); // of a details element, which does not bubble
  document.addEventListener("click", ({ target }) => {
    if (target.closest?.(".toggle-button, .tag_hide_input, .tag_hide_output, .admonition-title")) setTimeout(again, 0);
  });
})();
