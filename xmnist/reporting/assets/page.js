"use strict";
// What all views share: the address, which holds the view and what is chosen in it, and small helpers.

const VIEWS = ["overview", "gallery", "tables", "curves", "runs", "cards"];
const $ = (selector, inside = document) => inside.querySelector(selector);
const $$ = (selector, inside = document) => [...inside.querySelectorAll(selector)];

/** An element with attributes (functions are listeners, null leaves out) and children; text is always text. */
function make(name, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "line", "text", "rect", "circle"].includes(name);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

/** A number as people read it: three decimals, or three digits where it is tiny or huge. */
function said(value) {
  if (value === 0 || (Math.abs(value) >= 0.01 && Math.abs(value) < 100)) return value.toFixed(3);
  return Number(value.toPrecision(3)).toString();
}

/** Fill a select with [value, text] pairs; the first is chosen. */
function fill(select, options) {
  select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
}

const TOUCH = matchMedia("(hover: none), (pointer: coarse)").matches; // nothing can be pointed at

const views = {}; // view -> what applies the choices that the address holds for it

function address() {
  const [view, query] = location.hash.slice(1).split("?");
  return [VIEWS.includes(view) ? view : "overview", new URLSearchParams(query ?? "")];
}

/** Write a view's choices into the address, a list as several; those that are empty or usual (null) are left out. */
function remember(view, choices) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(choices)) {
    for (const each of Array.isArray(value) ? value : [value]) if (each !== null && each !== "") query.append(key, each);
  }
  const text = query.toString();
  history.replaceState(null, "", `#${view}${text ? `?${text}` : ""}`);
  const link = $(`nav a[href^="#${view}"]`);
  link.setAttribute("href", location.hash); // coming back finds the view as it was left
}

function show() {
  const [view, choices] = address();
  if (document.documentElement.dataset.view !== view) scrollTo(0, 0);
  if (view !== "gallery") $("#enlarged")?.close();
  document.documentElement.dataset.view = view;
  for (const link of $$("nav a")) {
    if (link.hash.slice(1).split("?")[0] === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  views[view]?.(choices);
}
