// Elements, and errors at the control that they are about. Text goes in as text nodes, never as markup.

export const $ = (id) => document.getElementById(id);

// A new element: `attributes` are attributes, or listeners where their value is a function.
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

export function options(select, values) {
  select.replaceChildren(...values.map(([value, text]) => el("option", { value }, text)));
}

export const short = (number) => (number == null ? "–" : String(Number(number.toPrecision(4))));

// A token with its white space made visible.
export const visible = (token) => token.replaceAll("\n", "↵").replaceAll(" ", "␣");

let errors = 0;

// Shows `error` at the control whose data-param is the longest part of error.param, else at `fallback`.
export function showError(error, fallback) {
  const control = controlOf(error.param) ?? fallback;
  const id = `error-${errors++}`;
  const message = el("p", { id, class: "error", role: "alert" }, error.message);
  control.setAttribute("aria-invalid", "true");
  control.setAttribute("aria-describedby", id);
  (control.closest(".field, .row, li") ?? control).after(message);
  for (let box = control.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
}

export function clearErrors(within = document) {
  for (const message of within.querySelectorAll(".error")) {
    const control = document.querySelector(`[aria-describedby="${message.id}"]`);
    control?.removeAttribute("aria-invalid");
    control?.removeAttribute("aria-describedby");
    message.remove();
  }
}

function controlOf(param) {
  if (!param) return undefined;
  const fits = [];
  for (const control of document.querySelectorAll("[data-param]")) {
    for (const name of control.dataset.param.split(" ")) {
      if (name && (param === name || param.startsWith(`${name}.`) || param.startsWith(`${name}[`))) fits.push([name.length, control]);
    }
  }
  return fits.sort((a, b) => b[0] - a[0])[0]?.[1];
}
