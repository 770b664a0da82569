// The request as somebody else would send it.

import { base, hasKey } from "./api.js";
import { $ } from "./dom.js";
import { request } from "./answers.js";

let language = "curl";

export function setUp() {
  for (const name of ["curl", "python"]) {
    $(`as-${name}`).addEventListener("click", () => {
      language = name;
      for (const other of ["curl", "python"]) $(`as-${other}`).setAttribute("aria-pressed", other === name);
      show();
    });
  }
  $("copy-it").addEventListener("click", copy);
}

export function show() {
  $("code").textContent = language === "curl" ? asCurl(request()) : asPython(request());
}

async function copy() {
  try {
    await navigator.clipboard.writeText($("code").textContent);
    $("copied").textContent = "copied";
  } catch { // only pages from https or this machine may write to the clipboard
    getSelection().selectAllChildren($("code"));
    $("copied").textContent = "selected: press Ctrl C";
  }
}

function asCurl(body) {
  const key = hasKey() ? ' \\\n  -H "Authorization: Bearer $OPENAI_API_KEY"' : "";
  const text = compact(body, JSON.stringify).replaceAll("'", "'\\''");
  return `curl -s ${base}/chat/completions${key} \\\n  -H 'Content-Type: application/json' -d '${text}'`;
}

function asPython({ steering, ...rest }) {
  const key = hasKey() ? 'os.environ["OPENAI_API_KEY"]' : '"none"';
  const given = Object.entries(rest).map(([name, value]) => `    ${name}=${python(value)},\n`).join("");
  const extra = steering ? `    extra_body={"steering": ${python(steering)}},\n` : "";
  return `${hasKey() ? "import os\n\n" : ""}import openai\n\nclient = openai.OpenAI(base_url="${base}", api_key=${key})\n`
    + `answer = client.chat.completions.create(\n${given}${extra})\nprint(answer.choices[0].message.content)\n`
    + (steering ? "print(answer.steering)\n" : "");
}

// One key a line, so that it can be read and edited.
function compact(body, written) {
  return `{\n${Object.entries(body).map(([name, value]) => `  ${written(name)}: ${written(value)}`).join(",\n")}\n}`;
}

function python(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([name, inner]) => `${python(name)}: ${python(inner)}`).join(", ")}}`;
  return JSON.stringify(value);
}
