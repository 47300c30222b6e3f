// Elements, made without markup in strings so that no text from outside is ever read as HTML.

const SVG = "http://www.w3.org/2000/svg";

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && ["value", "checked", "disabled", "required", "hidden"].includes(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An HTML element. `on...` attributes are listeners; null and false ones are left out. */
export function h(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function svg(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

let unique = 0;

/** An id that no other element has. */
export function id(stem) {
  unique += 1;
  return `${stem}-${unique}`;
}

/** Say a sentence to a screen reader, without moving the focus. */
export function say(text) {
  const region = document.getElementById("spoken");
  if (region.textContent !== text) region.textContent = text;
}

/** A large button. `kind` is primary, second, plain or danger. */
export function button(text, onclick, kind = "second", more = {}) {
  return h("button", { type: "button", class: `button ${kind}`, onclick, ...more }, text);
}

/** The bar with what to do next, at the lower edge of the screen. */
export function actions(...buttons) {
  return h("div", { class: "actions" }, ...buttons);
}

/**
 * Radio buttons as large targets.
 *
 * @param legend    what is asked
 * @param options   [{value, text, note?, before?}]; `before` is an element shown first
 * @param chosen    the value now, or undefined
 * @param choose    called with the new value
 * @param kind      "row" beside one another, "column" below one another
 */
export function choices(legend, options, chosen, choose, kind = "column", note = null) {
  const name = id("choice");
  return h(
    "fieldset",
    { class: `choices ${kind}` },
    h("legend", {}, legend),
    note && h("p", { class: "note" }, note),
    h(
      "div",
      { class: "options" },
      options.map((option) =>
        h(
          "label",
          { class: "option" },
          h("input", {
            type: "radio",
            name,
            value: String(option.value),
            checked: option.value === chosen,
            onchange: () => choose(option.value),
          }),
          option.before,
          h("span", { class: "words" }, option.text, option.note && h("small", {}, option.note)),
        ),
      ),
    ),
  );
}

/** A text field with its label and a note. */
export function field(label, value, changed, more = {}, note = null) {
  const own = id("field");
  return h(
    "div",
    { class: "field" },
    h("label", { for: own }, label),
    note && h("p", { class: "note", id: `${own}-note` }, note),
    h("input", {
      id: own,
      type: "text",
      value: value ?? "",
      autocomplete: "off",
      "aria-describedby": note ? `${own}-note` : null,
      oninput: (event) => changed(event.target.value),
      ...more,
    }),
  );
}

/** A list to choose from; options are [{value, text}]. */
export function list(label, options, chosen, choose, note = null) {
  const own = id("list");
  return h(
    "div",
    { class: "field" },
    h("label", { for: own }, label),
    note && h("p", { class: "note", id: `${own}-note` }, note),
    h(
      "select",
      { id: own, "aria-describedby": note ? `${own}-note` : null, onchange: (event) => choose(event.target.value) },
      options.map(({ value, text }) =>
        h("option", { value, selected: value === chosen }, text),
      ),
    ),
  );
}
