// The site's own script: counts the questions.
const count = document.getElementById("count");
addEventListener("tilewright-message", ({ detail }) => {
  if (detail.role === "user") count.textContent = String(Number(count.textContent) + 1);
});
