// What every page does: the theme, and questions before something is done that cannot be taken back.
(() => {
  "use strict";

  const root = document.documentElement;
  document.getElementById("theme")?.addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
  });

  // On a phone the areas are a strip that is pushed sideways: where one is has to be seen.
  document.querySelector(".areas [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

  // <button data-confirm="question"> asks in a dialog before its form is sent.
  document.addEventListener("submit", (event) => {
    const button = event.submitter;
    const question = button?.dataset.confirm;
    if (!question || button.dataset.confirmed) return;
    event.preventDefault();
    const dialog = document.createElement("dialog");
    dialog.className = "question";
    const text = document.createElement("p");
    text.textContent = question;
    const buttons = document.createElement("div");
    buttons.className = "buttons";
    const no = document.createElement("button");
    no.type = "button";
    no.className = "quiet";
    no.textContent = "Cancel";
    const yes = document.createElement("button");
    yes.type = "button";
    yes.className = "primary";
    yes.textContent = button.textContent;
    buttons.append(no, yes);
    dialog.append(text, buttons);
    document.body.append(dialog);
    no.addEventListener("click", () => dialog.close());
    yes.addEventListener("click", () => {
      button.dataset.confirmed = "yes";
      dialog.close();
      event.target.requestSubmit(button);
    });
    dialog.addEventListener("close", () => dialog.remove());
    dialog.showModal();
  });
})();
