"use strict";
// Every keystroke asks for the results, as the server renders them; an answer that is no longer wanted is dropped.
{
  const form = document.querySelector("form[role=search]");
  const box = form.elements.q;
  const results = document.getElementById("results");
  let asked = 0;
  let waiting = null;

  const address = (full) => {
    const fields = new FormData(form);
    if (full === false) fields.delete("full");
    return new URLSearchParams([...fields].filter(([, value]) => value !== ""));
  };

  async function show(full) {
    const number = ++asked;
    if (waiting) waiting.abort();
    waiting = new AbortController();
    const fields = address(full);
    const shown = new URLSearchParams(fields);
    fields.set("part", "results");
    const started = performance.now();
    try {
      const answer = await fetch("/?" + fields, { signal: waiting.signal });
      const html = await answer.text();
      if (number !== asked) return;
      const type = answer.headers.get("content-type") || "";
      if (!type.startsWith("text/html")) throw new Error("status " + answer.status);
      results.innerHTML = html; // escaped by the server; the page's policy runs no script of it
      const took = results.querySelector("[data-took]");
      if (took) took.textContent += ", " + (performance.now() - started).toFixed(1) + " ms until shown";
      history.replaceState(null, "", shown.size ? "/?" + shown : "/");
      document.title = box.value ? box.value + " – search" : "Search";
    } catch (error) {
      if (number !== asked || error.name === "AbortError") return;
      const said = document.createElement("p");
      said.className = "status alert";
      said.setAttribute("role", "alert");
      said.textContent = "The server did not answer (" + error.message + "): it is tried again with the next key.";
      results.replaceChildren(said);
    }
  }

  // While one types queries are looked up; Enter has the model read the query, where there is one and it was asked for.
  form.addEventListener("input", () => show(false));
  form.addEventListener("change", (event) => { if (event.target !== box) show(true); });
  form.addEventListener("submit", (event) => { event.preventDefault(); show(true); });

  const hits = () => [...results.querySelectorAll(".hit h2 a")];
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches("input:not([type=radio]):not([type=checkbox]), select, textarea");
    const links = hits();
    const at = links.indexOf(document.activeElement);
    if (event.key === "/" && !typing) {
      event.preventDefault();
      box.select();
    } else if (event.key === "Escape") {
      if (document.activeElement === box) { box.value = ""; show(false); }
      box.focus();
    } else if (event.key === "ArrowDown" && (event.target === box || at >= 0) && links.length) {
      event.preventDefault();
      links[Math.min(at + 1, links.length - 1)].focus();
    } else if (event.key === "ArrowUp" && at >= 0) {
      event.preventDefault();
      (at ? links[at - 1] : box).focus();
    }
  });
}
