// Pages that follow the node. A page names this script, and marks what follows:
//
//   <div id="x" data-live="/fragment/url" data-topics="studies,alerts">…what the URL answers…</div>
//
// When one of its topics changes, the URL is asked again and what differs is exchanged, so that focus, selection and
// scroll position stay. Topics: studies, study:<Study Instance UID>, deliveries, alerts.
//   data-beat                   of such a part: it is asked again every 15 s too, for what no topic tells of
//   #live-state                 is told whether the page is live, and since when not
//   data-announce="text"        of an element with an id: said politely in #live-news when it is new
//   <time data-since="seconds"> of the epoch: shows how long ago that is, and ticks
(() => {
  "use strict";

  const parts = [...document.querySelectorAll("[data-live]")];
  if (parts.length === 0) return;
  const topics = [...new Set(parts.flatMap((part) => part.dataset.topics.split(",")))];
  const state = document.getElementById("live-state");
  const news = document.getElementById("live-news");
  // The server says every 15 s that it is there.
  const silenceSeconds = 40;
  const mostPauseSeconds = 30;

  let source = null;
  let lastSign = 0;
  let lostAt = null;
  let pause = 1;
  let skewSeconds = 0;

  // --- Connection

  function connect() {
    source = new EventSource("/events?topics=" + encodeURIComponent(topics.join(",")));
    source.addEventListener("open", () => { lastSign = Date.now(); });
    source.addEventListener("alive", () => {
      lastSign = Date.now();
      refresh(parts.filter((part) => "beat" in part.dataset));
    });
    source.addEventListener("changed", (event) => {
      lastSign = Date.now();
      const changed = event.data.split(" ");
      refresh(parts.filter((part) => part.dataset.topics.split(",").some((topic) => changed.includes(topic))));
    });
    // Something may have changed before the line was open.
    source.onopen = async () => {
      lastSign = Date.now();
      if (await refresh(parts)) isLive();
    };
    source.onerror = lose;
  }

  function isLive() {
    lostAt = null;
    pause = 1;
    show("live", false);
  }

  // Whatever is wrong: from now on the page may be old, and says so.
  function lose() {
    if (source === null) return;
    source.close();
    source = null;
    lostAt ??= new Date();
    const since = lostAt.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
    show("not live since " + since + ", reconnecting", true);
    setTimeout(connect, 1000 * pause * (0.75 + Math.random() / 2));
    pause = Math.min(2 * pause, mostPauseSeconds);
    // An EventSource does not say whether it was the session that ended.
    ask(parts[0]);
  }

  function show(text, isLost) {
    document.documentElement.classList.toggle("not-live", isLost);
    if (state === null || state.textContent === text) return;
    state.textContent = text;
    state.className = isLost ? "tag warning" : "tag good";
    // Assertive: what is on the page may no longer be true.
    state.setAttribute("role", isLost ? "alert" : "status");
  }

  // --- Exchange

  // One at a time for each part; what changes meanwhile is asked for once more.
  function refresh(some) { return Promise.all(some.map(ask)).then((answers) => answers.every(Boolean)); }

  async function ask(part) {
    if (part.asking) {
      part.again = true;
      return part.asking;
    }
    part.asking = (async () => {
      let isGood = true;
      do {
        part.again = false;
        // Not all viewers at once.
        await new Promise((done) => setTimeout(done, part.asked ? Math.random() * 400 : 0));
        isGood = await exchange(part);
      } while (part.again && isGood);
      return isGood;
    })();
    const isGood = await part.asking;
    part.asking = null;
    return isGood;
  }

  async function exchange(part) {
    try {
      // It keeps no session alive that nobody uses.
      const headers = { "X-Background": "1", ...(part.tag ? { "If-None-Match": part.tag } : {}) };
      const answer = await fetch(part.dataset.live, { headers, cache: "no-store", redirect: "error" });
      part.asked = true;
      const now = Date.parse(answer.headers.get("Date"));
      if (now) skewSeconds = (now - Date.now()) / 1000;
      if (answer.status === 304) return true;
      // The session is over: no patients stay on the screen.
      if (answer.status === 401) {
        location.reload();
        return false;
      }
      if (!answer.ok) throw new Error(answer.status);
      const fresh = document.createElement("div");
      fresh.innerHTML = await answer.text();
      const before = new Set([...part.querySelectorAll("[data-announce]")].map(said));
      merge(part, fresh, true);
      part.tag = answer.headers.get("ETag");
      tick();
      announce([...part.querySelectorAll("[data-announce]")].filter((each) => !before.has(said(each))));
      return true;
    } catch {
      lose();
      return false;
    }
  }

  const said = (element) => element.id + " " + element.dataset.announce;

  function announce(elements) {
    if (elements.length === 0 || news === null) return;
    news.textContent = "New: " + elements.map((each) => each.dataset.announce).join("; ");
  }

  // Makes `old` what `fresh` is, and touches no node that stays.
  function merge(old, fresh, isRoot) {
    if (!isRoot) {
      for (const { name } of [...old.attributes]) {
        // What a reader has opened stays open.
        if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
      }
      for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    const byID = new Map([...old.children].filter((each) => each.id).map((each) => [each.id, each]));
    let place = old.firstChild;
    for (const wanted of [...fresh.childNodes]) {
      let found = wanted.id ? byID.get(wanted.id) : place;
      if (found && !isLike(found, wanted)) found = null;
      if (!found) {
        old.insertBefore(wanted, place);
        continue;
      }
      if (found === place) place = place.nextSibling; else old.insertBefore(found, place);
      if (found.nodeType !== Node.ELEMENT_NODE) {
        if (found.data !== wanted.data) found.data = wanted.data;
      } else if (found.dataset.since && found.dataset.since === wanted.dataset.since) {
        continue;
      } else if (!found.isEqualNode(wanted)) {
        merge(found, wanted, false);
      }
    }
    while (place) {
      const next = place.nextSibling;
      place.remove();
      place = next;
    }
  }

  function isLike(old, wanted) {
    return old.nodeType === wanted.nodeType && old.nodeName === wanted.nodeName && (old.id ?? "") === (wanted.id ?? "");
  }

  // --- Clocks

  function span(seconds) {
    const whole = Math.max(0, Math.round(seconds));
    if (whole < 120) return whole + " s";
    if (whole < 7200) return Math.floor(whole / 60) + " min " + (whole % 60) + " s";
    if (whole < 172800) return Math.floor(whole / 3600) + " h " + Math.floor((whole % 3600) / 60) + " min";
    return Math.floor(whole / 86400) + " d " + Math.floor((whole % 86400) / 3600) + " h";
  }

  function tick() {
    const now = Date.now() / 1000 + skewSeconds;
    for (const clock of document.querySelectorAll("time[data-since]")) {
      clock.title ||= clock.textContent;
      clock.textContent = span(now - Number(clock.dataset.since));
    }
  }

  setInterval(() => {
    tick();
    if (source && lastSign && Date.now() - lastSign > 1000 * silenceSeconds) lose();
  }, 1000);
  connect();
})();
