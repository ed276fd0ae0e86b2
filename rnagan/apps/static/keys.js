"use strict";
// A key presses the button, follows the link or takes the answer that names it; never while text is being written.
document.addEventListener("keydown", (event) => {
  const at = event.target;
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  if (at instanceof HTMLTextAreaElement || (at instanceof HTMLInputElement && at.type === "text")) return;
  if (event.key === "Enter" && (at instanceof HTMLButtonElement || at instanceof HTMLAnchorElement)) return;
  for (const element of document.querySelectorAll("[data-key]")) {
    if (element.dataset.key.toLowerCase() === event.key.toLowerCase()) {
      event.preventDefault();
      element.click();
      if (element instanceof HTMLInputElement) element.focus();
      return;
    }
  }
});
// A form is sent once, however often its button is pressed.
for (const form of document.querySelectorAll("form")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "1";
  });
}
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form")) delete form.dataset.sent;
});
