// Keys, and news of a run that is still being written. Everything here has a link or a form beside it: the page works without.
"use strict";
(() => {
  const page = document.documentElement;
  // The token is in a cookie by now: it need not stand in the address bar, in bookmarks or in a screenshot.
  const address = new URL(location.href);
  if (address.searchParams.has("token")) {
    address.searchParams.delete("token");
    history.replaceState(null, "", address);
  }

  const stored = (() => { try { return localStorage; } catch { return {}; } })();
  const toggle = document.getElementById("keys");
  const on = () => stored["selfreward-keys"] !== "off";
  const tell = () => { toggle.textContent = on() ? "Turn the keys off" : "Turn the keys on"; };
  toggle.hidden = false;
  toggle.addEventListener("click", () => { stored["selfreward-keys"] = on() ? "off" : "on"; tell(); });
  tell();

  const rows = [...document.querySelectorAll("a[data-row]")];
  const step = (by) => {
    const at = rows.indexOf(document.activeElement);
    const next = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by))];
    if (next) next.focus();
  };
  const press = (selector) => { const found = document.querySelector(selector); if (found) found.click(); };
  const keys = {
    j: () => step(1), k: () => step(-1),
    n: () => press("a[rel=next]"), p: () => press("a[rel=prev]"),
    f: () => press("button[value=flagged], button[data-flag]"),
    a: () => press("button[value=agree]"), d: () => press("button[value=disagree]"),
    u: () => press("a[data-up]"),
    "/": () => { const box = document.querySelector("input[type=search], textarea"); if (box) box.focus(); },
  };
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
    if (event.key === "Escape" && typing) { event.target.blur(); return; }
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.tagName === "TEXTAREA") {
      event.target.form.requestSubmit();
      return;
    }
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !on() || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });

  const news = document.getElementById("news");
  const known = page.dataset.generation;
  const look = async () => {
    try {
      const state = await (await fetch("/state", { cache: "no-store" })).json();
      if (String(state.generation) !== known) {
        if (page.dataset.refresh === "yes") location.reload();
        else news.hidden = false;
      }
    } catch { return; }  // stopped with Ctrl-C: nothing more to ask
    setTimeout(look, 4000);
  };
  setTimeout(look, 4000);
})();
