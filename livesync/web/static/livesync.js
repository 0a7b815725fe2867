// What moves on the pages of livesync. Every page works without it.
"use strict";

(() => {
  const LONGEST_S = 30;

  /** Put what is new into the page, and leave alone what is as it was, what is selected, and the focus. */
  function takeOver(fresh) {
    for (const part of fresh.querySelectorAll("[data-live][id]")) {
      const old = document.getElementById(part.id);
      if (!old || old.innerHTML === part.innerHTML || isSelected(old)) continue;
      const active = document.activeElement;
      const focused = old.contains(active) ? active.id : "";
      const open = [...old.querySelectorAll("details[open][id]")].map((each) => each.id);
      old.replaceChildren(...[...part.childNodes].map((node) => document.importNode(node, true)));
      for (const id of open) document.getElementById(id)?.setAttribute("open", "");
      if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    }
  }

  function isSelected(element) {
    const selection = document.getSelection();
    return Boolean(selection && !selection.isCollapsed && selection.rangeCount
      && selection.getRangeAt(0).intersectsNode(element));
  }

  /** Keep one part of the page as it is on the server, until it is paused, hidden or done. */
  class Live {
    constructor(box) {
      this.box = box;
      this.source = box.dataset.liveSource;
      this.everyS = Number(box.dataset.every);
      this.until = box.dataset.until || "";
      this.waitS = this.everyS;
      this.paused = false;
      this.busy = false;
      this.timer = 0;
      this.text = box.querySelector(".live-text");
      this.button = document.createElement("button");
      this.button.type = "button";
      this.button.className = "small";
      this.button.textContent = "Pause updates";
      this.button.addEventListener("click", () => this.toggle());
      box.querySelector("[data-refresh]")?.replaceWith(this.button);
      document.addEventListener("visibilitychange", () => { if (!document.hidden) this.look(); });
      this.say("is-live", "Live");
      this.plan();
    }

    say(state, text) {
      this.box.classList.remove("is-live", "is-lost");
      if (state) this.box.classList.add(state);
      if (this.text) this.text.textContent = text;
    }

    toggle() {
      this.paused = !this.paused;
      this.button.textContent = this.paused ? "Resume updates" : "Pause updates";
      if (this.paused) this.say("", `Paused at ${clock()}`);
      else this.look();
    }

    plan() {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.look(), this.waitS * 1000);
    }

    async look() {
      if (this.busy || this.done || this.paused || document.hidden) return this.done ? undefined : this.plan();
      this.busy = true;
      try {
        const answer = await fetch(this.source, { credentials: "same-origin", cache: "no-store" });
        if (answer.status === 401) return this.end("is-lost", "Your login has expired. ", "Log in again");
        if (answer.status === 404) return this.end("is-lost", "It is no longer there. ", "Load the page again");
        if (!answer.ok) throw new Error(String(answer.status));
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        if (this.paused) return undefined;
        takeOver(fresh);
        this.waitS = this.everyS;
        this.since = clock();
        this.say("is-live", `Live, updated ${this.since}`);
        if (this.until && fresh.querySelector(this.until)) return this.end("", "It has ended. ", "");
      } catch {
        this.waitS = Math.min(this.waitS * 2, LONGEST_S);
        this.say("is-lost", `No answer${this.since ? ` since ${this.since}` : ""}; trying again`);
      } finally {
        this.busy = false;
        if (!this.done) this.plan();
      }
      return undefined;
    }

    end(state, text, way) {
      this.done = true;
      clearTimeout(this.timer);
      this.button.remove();
      this.say(state, text);
      if (way) {
        const link = document.createElement("a");
        link.href = location.href;
        link.textContent = way;
        this.text.append(link);
      }
    }
  }

  function clock() {
    return `${new Date().toISOString().slice(11, 19)} UTC`;
  }

  for (const box of document.querySelectorAll("[data-live-source]")) new Live(box);
  document.getElementById("problems")?.focus();
})();
