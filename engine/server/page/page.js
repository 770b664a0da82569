// Puts the page together: what the server can do, then what happens on which event.

import { get, setKey } from "./api.js";
import { run, showActivations, stop } from "./answers.js";
import * as code from "./copy.js";
import { $, clearErrors, el, options, showError } from "./dom.js";
import * as edits from "./edits.js";
import * as find from "./find.js";

const PAUSE = 300; // milliseconds without a change before the steered answer is asked for again
let asked = false;
let timer;

async function start() {
  clearErrors();
  $("banner").hidden = true;
  try {
    const [server, profiles] = await Promise.all([get("/steering"), get("/steering/profiles")]);
    describe(server);
    showPresets(profiles.data);
    showVectors(server.vectors);
    edits.load(profiles.data[0]?.steering ?? {});
  } catch (error) {
    refuse(error);
  }
}

function refuse(error) {
  $("engine").textContent = "not connected";
  if (error.status === 401) {
    $("key-box").open = true;
    return showError({ message: "This server wants its API key." }, $("key"));
  }
  $("banner").textContent = error.message;
  $("banner").hidden = false;
}

function describe({ served_model_names, saes, layers, versions }) {
  const names = Object.entries(saes);
  const dictionaries = names.map(([name, sae]) => `SAE ${name}: ${sae.d_sae.toLocaleString("en")} features after layer ${sae.layer}`);
  $("engine").textContent = [served_model_names[0], ...(dictionaries.length ? dictionaries : [`layers ${layers.join(", ")}`]), `vLLM ${versions.vllm}`].join(" · ");
  const doubts = names.flatMap(([name, sae]) => sae.doubts.map((doubt) => `SAE ${name}: ${doubt}.`));
  $("doubts").textContent = doubts.join(" ");
  $("doubts").hidden = doubts.length === 0;
  options($("model"), served_model_names.map((name) => [name, name]));
  options($("sae"), names.map(([name]) => [name, name]));
  $("sae-field").hidden = names.length < 2;
  $("find").hidden = names.length === 0;
  $("or-label").hidden = !names.some(([, sae]) => sae.num_labels);
}

function showPresets(profiles) {
  const chips = [["none", {}], ...profiles.map(({ name, steering }) => [name, steering])].map(([name, steering]) => {
    const chip = el("button", { type: "button", class: "chip", click: () => edits.load(steering) }, name);
    return { chip, steering };
  });
  $("presets").replaceChildren(...chips.map(({ chip }) => chip));
  showPresets.mark = () => {
    const now = written(edits.steering());
    for (const { chip, steering } of chips) chip.setAttribute("aria-pressed", written(steering) === now);
  };
}

// The text of a `steering` object, the same for two that say the same.
function written(steering) {
  const features = steering.features?.map((edit) => ({ op: "add", ...edit }));
  return JSON.stringify({ ...steering, ...(features && { features }) }, (_, value) =>
    value && typeof value === "object" && !Array.isArray(value) ? Object.fromEntries(Object.entries(value).sort()) : value);
}

function showVectors(vectors) {
  const chips = Object.entries(vectors).map(([name, { norm }]) =>
    el("button", { type: "button", class: "chip", "aria-label": `Add vector ${name}`, click: () => edits.addVector(name, norm) }, `+ ${name}`));
  $("vectors").replaceChildren(...chips);
  $("vectors").hidden = chips.length === 0;
}

function steeringChanged() {
  showPresets.mark?.();
  code.show();
  clearTimeout(timer);
  if (asked && $("live").checked) timer = setTimeout(() => ask(["steered"]), PAUSE);
}

function ask(arms) {
  asked = true;
  clearTimeout(timer);
  clearErrors();
  run(arms);
}

function key(event) {
  if (event.key === "Escape") stop();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) ask();
}

edits.onChange(steeringChanged);
find.setUp();
code.setUp();
$("ask-form").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey($("key").value);
  start().then(code.show);
});
for (const id of ["where", "skip_first", "error_term", "norm"]) $(id).addEventListener("change", steeringChanged);
$("ask-form").addEventListener("input", () => code.show());
$("stop").addEventListener("click", stop);
$("shown").addEventListener("change", showActivations);
document.addEventListener("keydown", key);
start();
