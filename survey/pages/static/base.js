"use strict";
/* What all pages share: elements whose text is never read as HTML, packed data, colours, and the theme. */

/** An element with a class, a text, attributes, listeners (on) and children. */
function element(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || value === null || (value === false && !name.startsWith("aria-"))) continue;
    if (name === "text") made.textContent = value;
    else if (name === "class") made.className = value;
    else if (name === "on") for (const [event, run] of Object.entries(value)) made.addEventListener(event, run);
    else made.setAttribute(name, value === true && !name.startsWith("aria-") ? "" : String(value));
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const byId = (id) => document.getElementById(id);
const readJson = (id) => JSON.parse(byId(`data-${id}`).textContent);
const hasData = (id) => byId(`data-${id}`) !== null;

/** The bytes of packed data: base64, then gzip. */
async function unpack(id) {
  const text = byId(`data-${id}`).textContent.trim();
  const bytes = Uint8Array.fromBase64
    ? Uint8Array.fromBase64(text)
    : Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function unpackJson(id) {
  return JSON.parse(new TextDecoder().decode(await unpack(id)));
}

/** What a browser keeps for a page; in memory only what it does not keep, which then is the newer value. */
const memory = {
  values: new Map(),
  works: true,
  get(key) {
    if (this.values.has(key)) return this.values.get(key);
    try {
      return localStorage.getItem(key);
    } catch {
      this.works = false;
      return null;
    }
  },
  set(key, value) {
    try {
      localStorage.setItem(key, value);
      this.values.delete(key);
    } catch {
      this.works = false;
      this.values.set(key, value);
    }
  },
};

/** A colour of the style sheet, such as ink or series-1. */
function color(name, alpha = 1) {
  const value = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  if (alpha === 1) return value;
  const part = (start) => parseInt(value.slice(start, start + 2), 16);
  return `rgba(${part(1)}, ${part(3)}, ${part(5)}, ${alpha})`;
}

/** The colour as red, green and blue. */
function rgb(name) {
  const value = color(name);
  return [1, 3, 5].map((start) => parseInt(value.slice(start, start + 2), 16));
}

/** A number with so many digits after the point; a dash if it is unknown. */
function show(value, digits = 2) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (typeof value !== "number") return String(value);
  const text = value.toFixed(digits);
  return text.startsWith("-") ? `−${text.slice(1)}` : text;
}

/** A number with five significant digits; digits before the point are never lost. */
function significant(value) {
  if (typeof value !== "number" || Number.isInteger(value) || Math.abs(value) >= 1e5) return show(value, 0);
  const text = String(Number(value.toPrecision(5)));
  return text.startsWith("-") ? `−${text.slice(1)}` : text;
}

/** A number as short as its size allows. */
function brief(value) {
  if (typeof value !== "number" || !Number.isFinite(value)) return show(value);
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  if (size < 0.001) return value.toExponential(1);
  const text = String(Number(value.toPrecision(size >= 100 ? 4 : 3)));
  return text.startsWith("-") ? `−${text.slice(1)}` : text;
}

const THEMES = ["auto", "light", "dark"];
const theme = {
  value: "auto",
  apply(value) {
    this.value = THEMES.includes(value) ? value : "auto";
    if (this.value === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = this.value;
    const button = byId("theme");
    if (button) button.textContent = { auto: "◐ Auto", light: "☀ Light", dark: "☾ Dark" }[this.value];
    document.dispatchEvent(new CustomEvent("theme"));
  },
  start() {
    this.apply(memory.get("survey-theme") ?? "auto");
    byId("theme")?.addEventListener("click", () => {
      const next = THEMES[(THEMES.indexOf(this.value) + 1) % THEMES.length];
      memory.set("survey-theme", next);
      this.apply(next);
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.apply(this.value));
  },
};

/** Runs a drawing now, on every change of theme, and when the width of its host changes. */
function keepDrawn(host, draw) {
  let width = 0;
  new ResizeObserver(() => {
    if (host.clientWidth && host.clientWidth !== width) {
      width = host.clientWidth;
      draw();
    }
  }).observe(host);
  document.addEventListener("theme", () => host.clientWidth && draw());
}

/** Round numbers between two ends, about `count` of them. */
function ticks(low, high, count) {
  const span = Math.abs(high - low) || 1;
  const raw = span / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= raw * 0.999);
  const [first, last] = [Math.min(low, high), Math.max(low, high)];
  const found = [];
  for (let number = Math.ceil(first / step - 1e-9); number * step <= last + step * 1e-9; number += 1) {
    found.push(number * step);
  }
  return { values: found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9) + (step / power === 2.5 ? 1 : 0)) };
}

/** A text to save on the reader's disk. */
function save(name, text, type) {
  const link = element("a", { href: `data:${type};charset=utf-8,${encodeURIComponent(text)}`, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}
