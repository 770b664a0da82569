// Tokens coloured by activation. One stop for the tab key; the arrow keys move from token to token.

import { el, short, visible } from "./dom.js";

// values[k] belongs to tokens[k]; `scale` is the value of the strongest colour; `chosen(k)` is told of a token looked at.
export function coloured(name, tokens, values, scale, { split = 0, chosen = () => {} } = {}) {
  let at = 0;
  const spans = tokens.map((token, k) => {
    const value = values[k] ?? 0;
    const span = el("span", { title: `${visible(token)}  ${short(value)}`, class: k < split ? "tok asked" : "tok", "data-value": short(value), mouseenter: () => look(k), click: () => look(k) }, token);
    span.style.setProperty("--heat", `${Math.round(100 * Math.min(1, Math.max(0, value) / (scale || 1)))}%`);
    return span;
  });
  function look(k) {
    spans[at].classList.remove("at");
    at = k;
    spans[at].classList.add("at");
    chosen(k);
  }
  function move(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -spans.length, End: spans.length }[event.key];
    if (!step) return;
    event.preventDefault();
    look(Math.min(spans.length - 1, Math.max(0, at + step)));
  }
  return el("div", { class: "tokens", tabindex: 0, role: "group", "aria-label": name, keydown: move }, ...spans);
}
