// What makes pages fresh and buttons work. It puts no text of others into a page but what the server has escaped.
"use strict";

(() => {
  /** Between two looks at the page, in milliseconds: the server tells of changes at most as often. */
  const PAUSE = 1000;
  /** A page is looked at as often in any case: heartbeats and holds are no events. */
  const ROUND = 15000;
  /** After so long without an answer a page is looked at again. */
  const RETRY = 5000;
  /** Tasks that are retried at a time. */
  const AT_A_TIME = 4;

  const byId = (id) => document.getElementById(id);

  /** Tells something to whoever looks. */
  function tell(text, tone) {
    const told = byId("told");
    if (!told) return;
    const line = document.createElement("p");
    line.className = `notice ${tone}`;
    line.textContent = text;
    told.replaceChildren(line);
  }

  /** Asks the API; gives what it answers, or throws what it says against it. */
  async function ask(method, path, body) {
    const answer = await fetch(path, {
      method,
      headers: { "content-type": "application/json", accept: "application/json" },
      body: JSON.stringify(body ?? {}),
      credentials: "same-origin",
    });
    if (answer.status === 401 && document.body.hasAttribute("data-live-page")) {
      location.reload();
    }
    const said = await answer.json().catch(() => ({}));
    if (!answer.ok) {
      throw new Error([said.message ?? `the server answered ${answer.status}`, said.details].filter(Boolean).join(": "));
    }
    return said;
  }

  // Freshness.

  let looking = false;
  let again = false;

  let looks = 0;
  let shown = 0;

  /** What scrolls within a region, and what can be focused there, in order. */
  const SCROLLS = "pre, .tabs";

  /** Replaces the regions that have changed. What somebody is typing into, has typed, or has chosen, stays. */
  function put(text) {
    const fresh = new DOMParser().parseFromString(text, "text/html");
    for (const region of fresh.querySelectorAll("[data-live]")) {
      const old = byId(region.id);
      if (!old || old.isEqualNode(region)) continue;
      const active = old.contains(document.activeElement) ? document.activeElement : null;
      if (active && active.matches("input, select, textarea")) continue;
      if (old.querySelector("form[data-touched]")) continue;
      const choice = document.getSelection();
      if (choice && !choice.isCollapsed && old.contains(choice.anchorNode)) continue;
      const next = document.importNode(region, true);
      const back = remember(old, active);
      old.replaceWith(next);
      back(next);
    }
    count();
  }

  /** Notes what is open, scrolled and focused in a region; gives what brings that back in its successor. */
  function remember(old, active) {
    const open = [...old.querySelectorAll("details")].map((details) => details.open);
    const places = [...old.querySelectorAll(SCROLLS)].map((box) => ({
      top: box.scrollTop,
      left: box.scrollLeft,
      // Who reads the end of an output goes on reading its end.
      atEnd: box.scrollTop > 0 && box.scrollTop + box.clientHeight >= box.scrollHeight - 4,
    }));
    const focus = active && { id: active.id, tag: active.tagName, order: [...old.querySelectorAll(active.tagName)].indexOf(active), href: active.getAttribute("href") };
    return (next) => {
      [...next.querySelectorAll("details")].forEach((details, index) => { details.open = open[index] ?? false; });
      [...next.querySelectorAll(SCROLLS)].forEach((box, index) => {
        const place = places[index];
        if (!place) return;
        box.scrollTop = place.atEnd ? box.scrollHeight : place.top;
        box.scrollLeft = place.left;
      });
      if (!focus) return;
      const like = [...next.querySelectorAll(focus.tag)];
      const found = focus.id ? byId(focus.id) : like.find((link) => focus.href && link.getAttribute("href") === focus.href) ?? like[focus.order];
      found?.focus({ preventScroll: true });
    };
  }

  /** Looks at the page again: as others saw it a moment ago, or the newest. While one look goes on, the next one waits;
   *  more do not pile up. */
  async function look(part = "content") {
    if (looking && part === "content") {
      again = true;
      return;
    }
    looking = true;
    looks += 1;
    const own = looks;
    try {
      const answer = await fetch(location.href, { headers: { "adjutant-part": part }, credentials: "same-origin" });
      if (answer.status === 401) {
        location.reload();
      } else if (answer.ok) {
        again ||= answer.headers.get("adjutant-part") === "old";
        const text = await answer.text();
        ahead = Date.parse(answer.headers.get("date")) - Date.now();
        if (Math.abs(ahead) < 2000) ahead = 0; // The header tells whole seconds.
        // An answer that was overtaken by a newer one is old.
        if (own > shown) {
          shown = own;
          put(text);
        }
      }
    } catch {
      // The pulse tells that the server is away, and comes back with it.
    }
    setTimeout(() => {
      looking = false;
      if (again) {
        again = false;
        look();
      }
    }, PAUSE);
  }

  let pulse = null;

  function feel(state, text) {
    const shown = byId("pulse");
    if (!shown || shown.dataset.state === state) return;
    shown.dataset.state = state;
    shown.textContent = text;
  }

  /** Listens for changes, for as long as the page is seen. */
  function listen() {
    if (pulse || document.hidden) return;
    pulse = new EventSource("/dashboard/pulse");
    pulse.onopen = () => feel("live", "Live");
    pulse.onmessage = () => look();
    pulse.onerror = () => {
      feel("lost", "Reconnecting");
      if (pulse.readyState === EventSource.CLOSED) {
        // Refused: perhaps the session is over, which the next look tells.
        pulse = null;
        setTimeout(() => { look(); listen(); }, RETRY);
      }
    };
  }

  function rest() {
    pulse?.close();
    pulse = null;
  }

  /** How long something is by now, as the server writes it. */
  function length(millis) {
    const seconds = Math.max(0, Math.floor(millis / 1000));
    const two = (large, unit, small, of) => (small === 0 ? `${large} ${unit}` : `${large} ${unit} ${small} ${of}`);
    if (seconds < 120) return `${seconds} s`;
    if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
    if (seconds < 172800) return two(Math.floor(seconds / 3600), "h", Math.floor((seconds % 3600) / 60), "min");
    return two(Math.floor(seconds / 86400), "d", Math.floor((seconds % 86400) / 3600), "h");
  }

  /** How far the server's clock is ahead of this one, in milliseconds, as of its last answer. */
  let ahead = null;

  /** Counts times on, by the server's clock. */
  function count() {
    if (ahead === null) return;
    const now = Date.now() + ahead;
    for (const time of document.querySelectorAll("time[data-ago], time[data-for]")) {
      const text = length(now - Date.parse(time.dateTime)) + (time.hasAttribute("data-ago") ? " ago" : "");
      if (time.textContent !== text) time.textContent = text;
    }
  }

  // Buttons and forms.

  async function busy(button, work) {
    if (button?.getAttribute("aria-busy") === "true") return;
    button?.setAttribute("aria-busy", "true");
    try {
      byId("told")?.replaceChildren();
      await work();
    } catch (error) {
      tell(error.message, "bad");
    } finally {
      button?.removeAttribute("aria-busy");
    }
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("button");
    if (!button) return;
    if (button.dataset.action) {
      if (button.dataset.confirm && !confirm(button.dataset.confirm)) return;
      busy(button, async () => {
        await ask(button.dataset.method, button.dataset.action);
        await look("newest");
      });
    } else if (button.hasAttribute("data-sign-out")) {
      busy(button, async () => {
        await ask("POST", "/sign-out");
        location.assign("/");
      });
    }
  });

  document.addEventListener("change", (event) => {
    if (!event.target.matches?.("[data-all]")) return;
    for (const box of event.target.form.querySelectorAll("input[name=id]")) box.checked = event.target.checked;
  });

  /** What a field says, as the API wants it. */
  function value(field) {
    const text = field.value.trim();
    switch (field.dataset.kind) {
      case "count":
      case "money":
        return text === "" ? null : Number(text);
      case "list":
        return text.split(",").map((item) => item.trim()).filter(Boolean);
      case "duration":
        return /^\d+$/.test(text) ? Number(text) : text || 0;
      default:
        return text;
    }
  }

  /** The fields of a form as an object; `a.b` is `b` within `a`. Windows become a list of limits. */
  function collect(form) {
    const windows = [...form.querySelectorAll("[data-window]")];
    if (windows.length > 0) {
      const limits = windows.map((set) => {
        const limit = { window: set.dataset.window, hard: set.querySelector("[name=hard]").checked };
        for (const field of set.querySelectorAll("[data-kind]")) {
          const given = value(field);
          if (given !== null) limit[field.name] = given;
        }
        return limit;
      });
      return { limits: limits.filter((limit) => Object.keys(limit).length > 2) };
    }
    const body = {};
    for (const field of form.querySelectorAll("[data-kind]")) {
      const path = field.name.split(".");
      const last = path.pop();
      let place = body;
      for (const part of path) place = place[part] ??= {};
      place[last] = value(field);
    }
    return body;
  }

  /** Retries what was chosen, some at a time. */
  async function bulk(form) {
    const state = byId("bulk-state");
    const boxes = [...form.querySelectorAll("input[name=id]:checked")];
    if (boxes.length === 0) {
      state.textContent = "Choose some tasks first.";
      return;
    }
    const waiting = [...boxes];
    let done = 0;
    const refused = [];
    const worker = async () => {
      for (let box = waiting.shift(); box; box = waiting.shift()) {
        try {
          await ask("POST", form.dataset.bulk.replace("{}", encodeURIComponent(box.value)));
          done += 1;
          box.closest("tr").remove();
        } catch (error) {
          refused.push(`${box.value}: ${error.message}`);
        }
        state.textContent = `${done} of ${boxes.length} retried`;
      }
    };
    await Promise.all(Array.from({ length: AT_A_TIME }, worker));
    if (refused.length > 0) throw new Error(`${refused.length} not retried. ${refused.slice(0, 5).join("; ")}`);
  }

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.dataset.action && !form.dataset.bulk) return;
    event.preventDefault();
    busy(form.querySelector("[type=submit]"), async () => {
      if (form.dataset.bulk) {
        await bulk(form);
        return;
      }
      const region = form.closest("[data-live]").id;
      const say = (text) => { document.querySelector(`#${region} .saved`).textContent = text; };
      say("");
      await ask(form.dataset.method, form.dataset.action, collect(form));
      // What another form on the page shows is old now as well, where it is about the same.
      delete form.dataset.touched;
      await look("newest");
      say("Saved.");
      if (document.querySelector("form[data-touched]")) {
        tell("Another form on this page was changed and is not saved. Where it has not been changed it still shows what was set before.", "warning");
      }
    });
  });

  document.addEventListener("input", (event) => {
    const form = event.target.closest?.("form[data-action]");
    if (form) form.dataset.touched = "";
  });

  // Signing in: the code stands behind the `#`, which is sent to nobody by itself.

  async function signIn() {
    const state = byId("sign-in-state");
    if (location.pathname !== "/sign-in") {
      // Who follows a link from elsewhere comes without the session, which other sites cannot send along: from here the
      // browser sends it. Once, since there may be none.
      const tried = `tried ${location.pathname}`;
      const last = Number(sessionStorage.getItem(tried) ?? 0);
      sessionStorage.setItem(tried, String(Date.now()));
      if (Date.now() - last > RETRY) location.replace(location.href);
      return;
    }
    const code = location.hash.slice(1);
    if (!code) return;
    history.replaceState(null, "", location.pathname);
    state.textContent = "Signing in…";
    try {
      await ask("POST", "/sign-in", { code });
      location.replace("/");
    } catch (error) {
      state.textContent = error.message;
    }
  }

  if (document.querySelector("[data-sign-in]")) {
    signIn();
  } else if (document.body.hasAttribute("data-live-page")) {
    listen();
    setInterval(count, PAUSE);
    setInterval(() => { if (!document.hidden) look(); }, ROUND);
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) {
        rest();
      } else {
        listen();
        look();
      }
    });
    window.addEventListener("pagehide", rest);
    window.addEventListener("pageshow", (event) => { if (event.persisted) listen(); });
  }
})();
