// Keyboard shortcuts and small conveniences: everything works without them.
"use strict";
(() => {
  const help = document.getElementById("help");
  const opener = document.getElementById("open-help");
  const search = document.getElementById("q");
  opener.hidden = false;
  opener.addEventListener("click", () => help.showModal());

  for (const select of document.querySelectorAll("select[data-submits]")) {
    select.addEventListener("change", () => select.form.requestSubmit());
  }

  // Opens the group "more with the same text" when a link leads to a trace in it.
  const reveal = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const closed = target && target.closest("details:not([open])");
    if (closed) { closed.open = true; target.scrollIntoView(); }
  };
  addEventListener("hashchange", reveal);
  reveal();

  const follow = (link) => { if (link) location.href = link.href; };
  const step = (by) => {
    const rows = [...document.querySelectorAll(".row .open")];
    if (!rows.length) {
      follow(document.querySelector(by > 0 ? "a[rel=next]" : "a[rel=prev]"));
      return;
    }
    const at = rows.indexOf(document.activeElement);
    const next = rows[Math.min(rows.length - 1, Math.max(0, at + by))];
    next.focus();
    next.closest(".row").scrollIntoView({ block: "nearest" });
  };

  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    if (event.target.matches("input, select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const acts = {
      "j": () => step(1), "k": () => step(-1), "?": () => help.showModal(),
      "u": () => follow(document.getElementById("up")),
      "/": () => { if (search) { search.focus(); search.select(); } else follow(document.getElementById("up")); },
    };
    if (acts[event.key]) { event.preventDefault(); acts[event.key](); }
  });
})();
