// Ways to a feature: a text it is active on, its label, its number.

import { get } from "./api.js";
import { $, clearErrors, el, short, showError } from "./dom.js";
import { addFeature } from "./edits.js";
import { coloured } from "./tokens.js";

export function setUp() {
  asked("text-form", "text", async () => showText(await get("/steering/features", { text: $("text").value, sae: $("sae").value, top: 8 })));
  asked("id-form", "id", async () => (/\D/.test($("id").value) && !$("or-label").hidden ? byLabel($("id").value) : byNumber($("id").value)));
}

async function byLabel(words) {
  showLabels(await get("/steering/features/search", { q: words, sae: $("sae").value }));
}

async function byNumber(id) {
  addFeature(await get(`/steering/features/${encodeURIComponent(id || "-")}`, { sae: $("sae").value }));
  $("id").value = "";
}

function asked(form, control, answer) {
  $(form).addEventListener("submit", async (event) => {
    event.preventDefault();
    clearErrors($("find"));
    try {
      await answer();
    } catch (error) {
      showError(error, $(control));
    }
  });
}

function showText({ data, tokens }) {
  const box = el("div");
  const show = (feature) => box.replaceChildren(textOf(feature, tokens));
  const rows = data.map((feature) => row(feature, data[0].sum, () => show(feature)));
  if (data.length) show(data[0]);
  const none = "Nothing to show: the first token of a text is left out, and no other one is active.";
  $("found").replaceChildren(data.length ? el("ul", { class: "found" }, ...rows) : el("p", { class: "note" }, none), box);
}

function row(feature, most, look) {
  const bar = el("meter", { min: 0, max: most, value: feature.sum, "aria-hidden": "true" });
  const facts = `sum ${short(feature.sum)}, maximum ${short(feature.max)}, at ${feature.num_active} tokens`;
  const button = el("button", { type: "button", title: facts, "aria-label": `Add feature ${feature.id}, ${facts}`, click: () => addFeature(feature, feature.max), focus: look, mouseenter: look },
    el("strong", {}, `#${feature.id}`), el("span", { class: "label" }, feature.label ?? ""), bar, el("small", {}, short(feature.sum)));
  return el("li", {}, button);
}

function textOf(feature, tokens) {
  const values = tokens.map(({ top }) => top.find(([id]) => id === feature.id)?.[1] ?? 0);
  return coloured(`The text, coloured by feature ${feature.id}`, tokens.map(({ token }) => token), values, feature.max);
}

function showLabels({ data }) {
  const rows = data.map((feature) =>
    el("li", {}, el("button", { type: "button", "aria-label": `Add feature ${feature.id}, ${feature.label}`, click: () => addFeature(feature) },
      el("strong", {}, `#${feature.id}`), el("span", { class: "label" }, feature.label))));
  $("found").replaceChildren(rows.length ? el("ul", { class: "found" }, ...rows) : el("p", { class: "note" }, "No label holds these words."));
}
