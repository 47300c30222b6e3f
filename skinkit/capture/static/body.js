// The body, front and back, and the head larger: a region is chosen by touch, by key, or from the list below.

import { h, list, svg } from "/static/dom.js";
import { named, t } from "/static/words.js";

const both = (path, width) => [path, mirrored(path, width)];

/** A path of absolute M, L, C and Z commands, mirrored about the middle of the given width. */
function mirrored(path, width) {
  let across = true;
  return path.replace(/[A-Z]|-?[\d.]+/g, (token) => {
    if (/[A-Z]/.test(token)) {
      across = true;
      return token;
    }
    const value = across ? String(width - Number(token)) : token;
    across = !across;
    return value;
  });
}

const W = 200;
const arm = "M58 78 C46 84 42 98 40 118 L36 148 L54 152 L60 116 Z";
const forearm = "M36 150 L28 204 L44 207 L54 154 Z";
const hand = "M28 206 C18 216 14 234 20 246 C28 254 40 250 44 240 L44 209 Z";
const thigh = "M64 194 L99 194 L97 288 L70 288 Z";
const leg = "M70 290 L97 290 L93 366 L76 366 Z";
const foot = "M76 368 L94 368 L96 388 C90 398 62 398 56 390 C58 382 70 380 76 368 Z";
const upper = "M60 76 C76 70 88 70 100 70 C112 70 124 70 140 76 L136 128 L64 128 Z";
const lower = "M64 130 L136 130 L137 192 L63 192 Z";
const neck = "M88 56 L112 56 L114 69 L86 69 Z";
const face = "M80 26 L120 26 C121 44 112 56 100 56 C88 56 79 44 80 26 Z";
const scalp = "M80 25 C80 6 120 6 120 25 Z";
const hind = "M80 30 C78 4 122 4 120 30 C121 46 112 56 100 56 C88 56 79 46 80 30 Z";
const limbs = (more) => ({
  ARM: both(arm, W), FOREARM: both(forearm, W), HAND: both(hand, W), THIGH: both(thigh, W), leg: both(leg, W), FOOT: both(foot, W), ...more,
});
const FIGURES = [
  { name: "head", box: "0 0 200 214", regions: {
    NECK: ["M68 168 L132 168 L142 212 L58 212 Z"],
    FACE: ["M44 66 L156 66 C160 128 138 180 100 180 C62 180 40 128 44 66 Z"],
    SCALP: ["M44 64 C40 -14 160 -14 156 64 Z"],
    EAR: both("M42 80 C18 72 12 104 22 124 C28 136 40 136 46 126 Z", W),
    NOSE: ["M90 82 L110 82 L122 126 L78 126 Z"],
    LIP: ["M70 138 C84 130 94 132 100 135 C106 132 116 130 130 138 C120 164 80 164 70 138 Z"],
  } },
  { name: "front", box: "0 0 200 404", regions: limbs({ CHEST: [upper], ABDOMEN: [lower], NECK: [neck], FACE: [face], SCALP: [scalp] }) },
  { name: "back", box: "0 0 200 404", regions: limbs({ BACK: [`${upper} ${lower}`], NECK: [neck], SCALP: [hind] }) },
];

/**
 * The map and its list.
 *
 * @param sites   codes of the regions the server knows
 * @param chosen  the region now, or null
 * @param choose  called with a region
 */
export function bodyMap(sites, chosen, choose) {
  const places = [];
  const status = h("p", { class: "chosen", "aria-live": "polite" });
  const codes = sites.filter((site) => site !== "unknown");

  function pick(code) {
    show(code);
    choose(code);
  }
  function show(code) {
    for (const { element, of } of places) {
      element.setAttribute("aria-pressed", String(of === code));
      element.classList.toggle("on", of === code);
    }
    status.textContent = code ? t("site.chosen", { site: named("site", code) }) : t("site.none");
    const select = choice.querySelector("select");
    select.value = code ?? "";
  }
  function figure({ name, box, regions }) {
    const shapes = Object.entries(regions).map(([code, paths]) => {
      const drawnPaths = paths.map((d) => svg("path", { d }));
      if (!codes.includes(code)) {
        return svg("g", { class: "inert", onclick: () => { status.textContent = t("site.leg"); } }, drawnPaths);
      }
      const element = svg(
        "g",
        {
          class: "region", role: "button", tabindex: 0, "aria-pressed": "false", "aria-label": named("site", code), "data-site": code,
          onclick: () => pick(code),
          onkeydown: (event) => {
            if (event.key === "Enter" || event.key === " ") {
              event.preventDefault();
              pick(code);
            }
          },
        },
        svg("title", {}, named("site", code)),
        drawnPaths,
      );
      places.push({ element, of: code });
      return element;
    });
    return h(
      "figure",
      { class: `figure ${name}` },
      svg("svg", { viewBox: box, role: "group", "aria-label": t(`site.figure.${name}`) }, shapes),
      h("figcaption", {}, t(`site.figure.${name}`)),
    );
  }
  const map = h("div", { class: "bodymap" }, FIGURES.map(figure));
  const choice = list(
    t("site.list"),
    [{ value: "", text: t("site.choose") }, ...codes.map((code) => ({ value: code, text: named("site", code) })), { value: "unknown", text: t("site.unknown") }],
    chosen ?? "",
    (value) => pick(value || null),
  );
  show(chosen);
  return h("div", { class: "site" }, status, map, choice);
}
