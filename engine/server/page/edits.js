// What is edited: the list of features and vectors with their sliders, and the `steering` object that it makes.

import { get } from "./api.js";
import { $, el, options, short, visible } from "./dom.js";

const OPS = [["add", "add"], ["set", "set to"], ["scale", "times"], ["min", "at least"], ["max", "at most"], ["ablate", "ablate"]];
const MODES = [["add", "add"], ["orthogonal", "scale its part"], ["cap", "cap its part"]];
const UNITS = [["raw", "raw"], ["max_act", "× max"], ["norm", "× norm"]];
const NORM_VALUE = 0.3; // of a token's residual norm: a strong edit that leaves most models fluent

let edits = [];
let other = {}; // keys of a profile that have no control here, such as max_norm
let changed = () => {};

export const onChange = (callback) => void (changed = callback);
export const edited = (sae) => edits.filter((e) => e.id != null && e.sae === sae).map((e) => e.id);
export const firstSae = () => edits.find((e) => e.id != null)?.sae;

// The `steering` object of a request, defaults left out.
export function steering() {
  const features = edits.filter((e) => e.id != null).map(featureOf);
  const vectors = edits.filter((e) => e.name != null).map(vectorOf);
  const where = $("where").value.startsWith("{") ? JSON.parse($("where").value) : $("where").value;
  return {
    ...(features.length && { features }),
    ...(vectors.length && { vectors }),
    ...(!$("error_term").checked && { error_term: false }),
    ...($("norm").checked && { norm: "preserve" }),
    ...(where !== "all" && { where }),
    ...($("skip_first").value !== "0" && { skip_first: number($("skip_first").value) }),
    ...other,
  };
}

const number = (text) => (text === "" ? null : Number(text));

function featureOf({ id, op, value, unit, sae, when }) {
  const rest = { ...(sae !== "default" && { sae }), ...(when && { when }) };
  if (op === "ablate") return { id, op, ...rest };
  return { id, op, value, ...(unit !== "raw" && op !== "scale" && { unit }), ...rest };
}

function vectorOf({ name, op, value, unit }) {
  return { name, alpha: value, ...(op !== "add" && { mode: op }), ...(unit !== "raw" && op !== "orthogonal" && { unit }) };
}

// Shows a `steering` object, a profile's say, in place of what was there.
export function load(given) {
  const { features = [], vectors = [], error_term = true, norm = "free", where = "all", skip_first = 0, read, ...rest } = given;
  edits = [
    ...features.map((f) => ({ op: "add", unit: "raw", sae: "default", ...f })),
    ...vectors.map(({ name, alpha, mode = "add", unit = "raw" }) => ({ name, op: mode, value: alpha, unit })),
  ];
  other = rest;
  $("error_term").checked = error_term;
  $("norm").checked = norm === "preserve";
  $("skip_first").value = skip_first;
  showWhere(where);
  draw();
}

function showWhere(where) {
  const value = typeof where === "string" ? where : JSON.stringify(where);
  if (typeof where !== "string") {
    const { start = 0, end } = where;
    $("where").append(el("option", { value }, `from ${start} to ${end ?? "the end"}`));
  }
  $("where").value = value;
}

// Adds a feature (as the server describes it) at half its maximum; `seen` is an activation to start from without one.
export function addFeature({ id, sae, label, max_act }, seen) {
  const known = edits.findIndex((e) => e.id === id && e.sae === sae);
  const value = max_act ? max_act / 2 : seen;
  if (known < 0) {
    const start = value ? { value: Number(value.toPrecision(3)), unit: "raw" } : { value: NORM_VALUE, unit: "norm" };
    edits.push({ id, sae, label, max_act, seen, op: "add", ...start });
    draw();
  }
  const at = known < 0 ? edits.length - 1 : known;
  $("edits").children[at].querySelector("input[type=range]")?.focus();
}

export function addVector(name, norm) {
  if (!edits.some((e) => e.name === name)) {
    edits.push({ name, op: "add", value: Number((NORM_VALUE / (norm || 1)).toPrecision(3)), unit: "norm", norm });
    draw();
  }
  $("edits").lastChild.querySelector("input[type=range]").focus();
}

function draw() {
  $("edits").replaceChildren(...edits.map(card));
  $("no-edits").hidden = edits.length > 0;
  changed();
}

function remove(edit) {
  edits = edits.filter((e) => e !== edit);
  draw();
  $("steer-title").scrollIntoView({ block: "nearest" });
  ($("edits").querySelector("button") ?? $("presets").querySelector("button"))?.focus();
}

function card(edit) {
  const title = edit.id == null ? edit.name : `#${edit.id}`;
  const own = edits.filter((e) => (e.id == null) === (edit.id == null)).indexOf(edit);
  const param = edit.id == null ? `steering.vectors[${own}]` : `steering.features[${own}]`;
  const label = el("span", { class: "label" }, edit.label ?? "");
  const about = el("div", { class: "about" });
  const made = el("li", { class: "edit", "data-param": param },
    ...controls(edit, title, param, label),
    edit.when && el("p", { class: "note" }, `only where #${edit.when.feature} is above ${edit.when.above ?? 0}`),
    edit.id == null ? null : about);
  if (edit.id != null) describe(edit, label, about);
  return made;
}

function controls(edit, title, param, label) {
  const field = edit.id == null ? "alpha" : "value";
  const slider = el("input", { type: "range", step: "any", "aria-label": `Value of ${title}`, input: slid, change: changed });
  const value = el("input", { type: "number", step: "any", "aria-label": `Value of ${title} as a number`, "data-param": `${param}.${field}`, change: typed });
  const op = el("select", { "aria-label": `Operation on ${title}`, "data-param": `${param}.op ${param}.mode`, change: chosen });
  const unit = el("select", { "aria-label": `Unit of ${title}`, "data-param": `${param}.unit`, change: chosen });
  options(op, edit.id == null ? MODES : OPS);
  [op.value] = [edit.op];

  function slid() {
    edit.value = Number(Number(slider.value).toPrecision(3));
    value.value = edit.value;
  }
  function typed() {
    edit.value = number(value.value);
    show();
    changed();
  }
  function chosen() {
    if (edit.op !== op.value && [edit.op, op.value].some((name) => ["scale", "orthogonal"].includes(name))) edit.value = 1;
    if (edit.unit !== unit.value) edit.value = unit.value === "norm" ? NORM_VALUE : unit.value === "max_act" ? 0.5 : edit.max_act / 2 || edit.seen || 20;
    Object.assign(edit, { op: op.value, unit: unit.value });
    if (edit.op === "ablate") delete edit.value;
    else edit.value ??= 1;
    show();
    changed();
  }
  function show() {
    options(unit, UNITS.filter(([name]) => name !== "max_act" || edit.max_act || edit.unit === name));
    unit.value = edit.unit;
    [slider.min, slider.max] = reach(edit);
    slider.value = edit.value ?? 0;
    value.value = edit.value ?? "";
    for (const part of [slider, value]) part.hidden = edit.op === "ablate";
    unit.hidden = ["ablate", "scale", "orthogonal"].includes(edit.op);
  }
  edit.show = show;
  show();
  const close = el("button", { type: "button", class: "quiet", "aria-label": `Remove ${title}`, click: () => remove(edit) }, "✕");
  return [el("div", { class: "row tight" }, el("strong", {}, title), label, op, close), el("div", { class: "row tight" }, slider, value, unit)];
}

// The slider's ends: twice the largest activation on record, further where the value is.
function reach({ op, unit, value, max_act, seen, norm }) {
  if (op === "scale" || op === "orthogonal") return [Math.min(-2, value), Math.max(4, value)];
  const usual = unit === "max_act" ? 2 : unit === "norm" ? 1 / (norm || 1) : 2 * (max_act || seen || Math.abs(value) || 20);
  const end = Math.max(usual, Math.abs(value));
  return [op === "add" || value < 0 ? -end : 0, end];
}

async function describe(edit, label, about) {
  let found;
  try {
    found = await get(`/steering/features/${edit.id}`, { sae: edit.sae });
  } catch {
    return; // the request that uses the feature says what is wrong with it
  }
  label.textContent = found.label ?? "";
  if (edit.max_act == null && found.max_act) {
    edit.max_act = found.max_act;
    edit.show();
  }
  about.replaceChildren(el("details", {}, el("summary", { title: "Tokens that its direction makes likelier (logit lens)" }, "promotes ", ...words(found.promotes.slice(0, 5))), details(found)));
}

const words = (tokens) => tokens.map((token) => el("code", {}, visible(token)));

function details(found) {
  const close = found.nearest.map((near) =>
    el("button", { type: "button", class: "chip", title: near.label, click: () => addFeature(near) }, `#${near.id} `, el("small", {}, near.cosine.toFixed(2))));
  return el("dl", { class: "facts" },
    el("dt", {}, "promotes"), el("dd", {}, ...words(found.promotes)),
    el("dt", {}, "suppresses"), el("dd", {}, ...words(found.suppresses)),
    el("dt", {}, "nearest"), el("dd", { class: "chips" }, ...close),
    el("dt", {}, "maximum"), el("dd", {}, found.max_act == null ? "not recorded" : short(found.max_act)),
    el("dt", {}, "norm, bias"), el("dd", {}, `${short(found.decoder_norm)}, ${short(found.encoder_bias)}`));
}
