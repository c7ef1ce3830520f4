// Helpers for elements, texts and the timing of actions.

// Makes an element with properties and children; texts are never parsed as HTML.
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && name !== "list" && name !== "form") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

export function button(id, label, onclick) {
  return h("button", { id: `do-${id}`, type: "button", onclick }, label);
}

// Wraps an action so that it runs once, after the last of several calls.
export function debounced(action, wait) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(action, wait);
  };
}

// Wraps an action so that it runs at the first of several calls and after the last.
export function eager(action, wait) {
  let last = -Infinity;
  const later = debounced(action, wait);
  return () => {
    const now = performance.now();
    if (now - last > wait) action(); else later();
    last = now;
  };
}

export function shortened(text, length = 36) {
  const whole = String(text);
  if (whole.length <= length) return whole;
  const half = Math.floor((length - 1) / 2);
  return `${whole.slice(0, half)}…${whole.slice(-half)}`;
}

// A file name that every file system accepts.
export function fileName(text, length = 80) {
  return text.replace(/[^A-Za-z0-9-]+/g, "-").slice(0, length);
}

// The text behind base64 of gzip.
export async function unpacked(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

// Escapes text that Plotly would read as HTML.
export function plain(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
