// The entry point: TensorBoard imports this module in a frame of its own and calls render().
import { Address } from "./address.js";
import { start } from "./app.js";
import { ServerSource } from "./sources.js";

export async function render() {
  const frame = outer();
  const here = (name) => new URL(name, import.meta.url).href;
  document.documentElement.lang = "en";
  document.title = "Phases";
  document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href: here("style.css") }));
  const root = document.createElement("div");
  root.id = "phases";
  root.textContent = "loading …";
  document.body.append(root);
  const ready = script(here("plotly.min.js")); // large: it loads while the runs are listed
  const dark = () => {
    const body = frame.document.body;
    return frame === window
      ? window.matchMedia("(prefers-color-scheme: dark)").matches
      : body.classList.contains("dark-mode");
  };
  const app = await start(root, new ServerSource(here("./")), {
    address: new Address(frame), dark, ready,
  });
  if (frame !== window) {
    new MutationObserver(() => app.themeChanged())
      .observe(frame.document.body, { attributes: true, attributeFilter: ["class"] });
  }
}

// TensorBoard's own window, which has the visible address, or this window if the page stands alone.
function outer() {
  try {
    return window.parent.location.href ? window.parent : window;
  } catch {
    return window;
  }
}

function script(source) {
  return new Promise((resolve, reject) => {
    const element = document.createElement("script");
    element.src = source;
    element.onload = resolve;
    element.onerror = reject;
    document.head.append(element);
  });
}
