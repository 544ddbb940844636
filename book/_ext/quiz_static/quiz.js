// Says at once whether a choice was right. Everything else works without it.
for (const quiz of document.querySelectorAll("fieldset.quiz")) {
  const said = quiz.querySelector(".quiz-said");
  quiz.addEventListener("change", (event) => {
    const right = event.target.hasAttribute("data-right");
    said.textContent = right
      ? "✓ Right. The answer below says why."
      : "✗ Not that one. Choose again, or open the answer.";
    said.classList.toggle("quiz-right", right);
  });
}
