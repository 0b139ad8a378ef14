"use strict";

// Everything that was logged is put into the page as text, never as HTML.
function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "text") made.textContent = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// A name that may be broken after its underscores and commas.
function breakable(name, after = /(?<=[_,/])/u) {
  const parts = name.split(after);
  return element("bdi", {}, ...parts.flatMap((part, place) => (place ? [document.createElement("wbr"), part] : [part])));
}

function embedded(id) {
  return JSON.parse(document.getElementById(id).textContent);
}

function infinite(value) {
  return value === "inf" ? Infinity : value === "-inf" ? -Infinity : value;
}

function grouped(count) {
  return count.toLocaleString("en-US");
}

// Libraries are in the page as text and run when they are first needed.
const libraries = {};
function library(name) {
  if (!libraries[name]) {
    const script = document.createElement("script");
    script.textContent = document.getElementById("library-" + name).textContent;
    document.head.append(script);
    libraries[name] = true;
  }
}

// DataTables names all its lists of pages alike.
function nameOfPages(table, name) {
  table.table().container().querySelector(".dt-paging nav")?.setAttribute("aria-label", name);
}

// Runs a section's code when it comes near, and all of it in idle moments before that.
const waiting = [];
function whenNear(node, work) {
  const once = { node, work, done: false };
  once.run = () => {
    if (once.done) return;
    once.done = true;
    observer.unobserve(node);
    work();
  };
  waiting.push(once);
  observer.observe(node);
  return once.run;
}
const observer = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) waiting.filter((own) => own.node === entry.target).forEach((own) => own.run());
    }
  },
  { rootMargin: "400px 0px" },
);
const idle = window.requestIdleCallback || ((work) => setTimeout(work, 50));
function inIdleTime() {
  const next = waiting.find((own) => !own.done);
  if (!next) return;
  next.run();
  idle(inIdleTime);
}
window.addEventListener("load", () => idle(inIdleTime));
window.addEventListener("beforeprint", () => waiting.forEach((own) => own.run()));
