// "/" goes to the search field; a click into a row opens its study, unless text is being selected.
(() => {
  "use strict";

  const search = document.getElementById("search");
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest("input, select, textarea, [contenteditable]") !== null;
    if (event.key !== "/" || isTyping || event.ctrlKey || event.altKey || event.metaKey || search === null) return;
    event.preventDefault();
    search.focus();
    search.select();
  });

  document.getElementById("list")?.addEventListener("click", (event) => {
    if (event.target.closest("a, button, input") || String(getSelection()) !== "") return;
    event.target.closest("tr")?.querySelector("a")?.click();
  });
})();
