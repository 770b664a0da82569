// The two answers, streamed side by side, and what the server says of them: receipt and activations.

import { stream } from "./api.js";
import { $, el, options, short, showError, visible } from "./dom.js";
import { addFeature, edited, firstSae, steering } from "./edits.js";
import { coloured } from "./tokens.js";

const TOP = 5; // features reported at each token, to be looked at and added
const running = new Map(); // arm -> AbortController
const reads = {}; // arm -> read-out of its last answer

const optional = (id) => ($(id).value === "" ? {} : { [id]: Number($(id).value) });

// The request as it stands, without `read`, which changes no answer.
export function request() {
  const system = $("system").value.trim();
  const messages = [...(system ? [{ role: "system", content: system }] : []), { role: "user", content: $("prompt").value }];
  const spec = steering();
  return {
    model: $("model").value, messages,
    ...optional("max_tokens"), ...optional("temperature"), ...optional("seed"),
    ...(Object.keys(spec).length && { steering: spec }),
  };
}

export function stop() {
  for (const controller of running.values()) controller.abort();
}

// Asks for both answers, or for the steered one alone.
export async function run(arms = ["plain", "steered"]) {
  const { steering: spec, ...asked } = request();
  const sae = firstSae() ?? $("sae").value;
  const read = sae ? { read: { features: edited(sae).slice(0, 32), top: TOP, reduce: "none", sae } } : {};
  const { where, skip_first } = spec ?? {}; // the same tokens of both answers are read
  const specs = { plain: { ...read, where, skip_first }, steered: { ...spec, ...read } };
  if (!spec) {
    $("steered").textContent = "";
    $("steered-state").textContent = "nothing is edited";
    forget("steered");
    arms = arms.filter((arm) => arm === "plain");
  }
  const failures = await Promise.all(arms.map((arm) => answer(arm, { ...asked, steering: specs[arm] })));
  const failure = failures.findLast((error) => error);
  if (failure) showError(failure, $("problem"));
}

// Streams one answer; returns the error that ended it, if one did.
async function answer(arm, body) {
  running.get(arm)?.abort();
  const controller = new AbortController();
  running.set(arm, controller);
  forget(arm);
  state(arm, "answering …", true);
  $(arm).textContent = "";
  try {
    await take(arm, stream(body, controller.signal));
  } catch (error) {
    if (running.get(arm) !== controller) return undefined; // a newer answer is under way
    state(arm, error.name === "AbortError" ? "stopped" : "failed", false);
    return error.name === "AbortError" ? undefined : error;
  } finally {
    if (running.get(arm) === controller) running.delete(arm);
    $("stop").disabled = running.size === 0;
  }
}

async function take(arm, chunks) {
  let last = {};
  for await (const chunk of chunks) {
    $(arm).append(chunk.choices[0]?.delta?.content ?? "");
    if (chunk.choices[0]?.finish_reason) last = chunk;
  }
  state(arm, last.choices?.[0].finish_reason === "length" ? "cut at the longest answer" : "done", false);
  reads[arm] = last.steering?.read;
  if (arm === "steered" && last.steering) showReceipt(last.steering);
  showActivations();
}

function state(arm, text, busy) {
  $(`${arm}-state`).textContent = text;
  $(arm).setAttribute("aria-busy", busy);
  $("stop").disabled = running.size === 0;
}

function forget(arm) {
  delete reads[arm];
  if (arm === "steered") $("receipt").hidden = true;
}

function showReceipt(receipt) {
  const counts = [
    [receipt.tokens_steered, "tokens steered"], [receipt.tokens_cached, "from the cache"], [receipt.tokens_in_scope, "in scope"],
    [short(receipt.mean_delta_norm), "mean norm of the edit"], [receipt.spec_hash, "spec"],
  ];
  $("counts").replaceChildren(...counts.map(([value, name]) => el("div", {}, el("dt", {}, name), el("dd", {}, String(value)))));
  const head = ["feature", "op", "active at", "mean before", "mean after"].map((name) => el("th", { scope: "col" }, name));
  const rows = receipt.features.map((f) => el("tr", {}, el("th", { scope: "row" }, `#${f.id}`), el("td", {}, f.op),
    el("td", {}, f.share_active == null ? "–" : `${Math.round(100 * f.share_active)}%`), el("td", {}, short(f.mean_before)), el("td", {}, short(f.mean_after))));
  $("reports").replaceChildren(el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows));
  $("reports").hidden = rows.length === 0;
  $("receipt").hidden = false;
}

// Redraws the coloured tokens of both answers; for a feature chosen in the list, else the first one.
export function showActivations() {
  const both = [["plain", "Unsteered"], ["steered", "Steered"]].filter(([arm]) => reads[arm]?.tokens);
  const known = [...new Set(both.flatMap(([arm]) => Object.keys(reads[arm].features ?? {})))];
  $("activations").hidden = known.length === 0;
  if (!known.length) return;
  const most = Object.fromEntries(known.map((id) => [id, largest(both, id)]));
  const before = $("shown").value;
  options($("shown"), known.map((id) => [id, `#${id}, at most ${short(most[id])}`]));
  $("shown").value = known.includes(before) ? before : known.reduce((a, b) => (most[b] > most[a] ? b : a));
  draw(both, $("shown").value);
}

const largest = (both, feature) => Math.max(...both.flatMap(([arm]) => reads[arm].features?.[feature] ?? []), 0);

function draw(both, feature) {
  const scale = largest(both, feature);
  $("scale").textContent = short(scale);
  $("heat").replaceChildren(...both.map(([arm, name]) => {
    const read = reads[arm];
    const split = read.positions.filter((position) => position < read.prompt_len).length;
    const shown = coloured(`${name}, coloured by feature ${feature}`, read.tokens, read.features?.[feature] ?? [], scale, { split, chosen: (k) => showToken(read, k) });
    return el("div", {}, el("h3", {}, name), shown);
  }));
}

function showToken(read, k) {
  const chips = (read.top?.[k] ?? []).map(([id, value]) =>
    el("button", { type: "button", class: "chip", "aria-label": `Add feature ${id}`, click: () => addFeature({ id, sae: read.sae }, value) }, `#${id} `, el("small", {}, short(value))));
  $("token").replaceChildren(el("p", {}, el("code", {}, visible(read.tokens[k])), ` at ${read.positions[k]}: most active are `), el("div", { class: "chips" }, ...chips));
}
