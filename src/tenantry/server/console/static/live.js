// Keeps an open page up to date: on news from the server it fetches itself and replaces the parts that differ.
// What has the focus, or is selected, is left as it is until it has not.
"use strict";
(() => {
  const note = document.getElementById("live");
  const say = (text) => { if (note && note.textContent !== text) note.textContent = text; };
  let busy = false, again = false;
  async function refresh() {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(location.href, { headers: { "Accept": "text/html" } });
      if (!answer.ok) throw new Error(String(answer.status));
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      document.title = fresh.title;
      for (const now of document.querySelectorAll("[data-live]")) {
        const then = fresh.getElementById(now.id);
        const picked = getSelection();
        const held = now.contains(document.activeElement) || (picked && !picked.isCollapsed && picked.containsNode(now, true));
        if (!then || held || now.innerHTML === then.innerHTML) continue;
        const open = [...now.querySelectorAll("details")].map((each) => each.open);
        now.innerHTML = then.innerHTML;
        now.className = then.className;
        now.querySelectorAll("details").forEach((each, n) => { each.open = open[n] ?? false; });
      }
      say("Live.");
    } catch (error) {
      say("Not live: the server does not answer. Trying again.");
    } finally {
      busy = false;
      if (again) { again = false; refresh(); }
    }
  }
  const news = new EventSource(document.body.dataset.news);
  news.addEventListener("open", () => say("Live."));
  news.addEventListener("read", refresh);
  news.addEventListener("error", () => say("Not live: the server does not answer. Trying again."));
  addEventListener("pagehide", () => news.close());
})();
