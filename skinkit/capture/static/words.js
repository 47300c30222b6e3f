// The page's words in one language, and numbers as words.

export const LANGUAGES = { en: "English", "zh-CN": "中文" };
const KEPT = "skinkit-language";

let words = {};
let current = "en";

/** The language now: a key of LANGUAGES. */
export function language() {
  return current;
}

/** The language chosen here before, else the browser's. */
export function preferred(fallback) {
  const kept = localStorage.getItem(KEPT);
  if (kept in LANGUAGES) return kept;
  if (navigator.language.toLowerCase().startsWith("zh")) return "zh-CN";
  return fallback in LANGUAGES ? fallback : "en";
}

/** Fetch the words of a language and use them from here on. */
export async function speak(chosen, remember = false) {
  const answer = await fetch(`/api/words/${chosen}`, { credentials: "same-origin" });
  if (!answer.ok) throw new Error(`words: ${answer.status}`);
  words = await answer.json();
  current = chosen;
  document.documentElement.lang = chosen;
  if (remember) localStorage.setItem(KEPT, chosen);
}

function found(key) {
  if (typeof words[key] === "string") return words[key];
  const text = key.split(".").reduce((table, part) => table?.[part], words);
  return typeof text === "string" ? text : undefined;
}

/** The text of a key with its {placeholders} filled. */
export function t(key, values = {}) {
  const text = found(key) ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** The text of a code; a code without a text is shown as it is, or by its label. */
export function named(family, code, label = undefined) {
  return found(`${family}.${code}`) ?? label ?? String(code).replaceAll("_", " ");
}

/** A probability in percent, never 0 or 100: nothing is certain. */
export function share(p) {
  if (p > 0.99) return t("share.over");
  if (p < 0.01) return t("share.under");
  return t("share.value", { value: Math.round(p * 100) });
}

/** Several names in one sentence. */
export function listed(names) {
  return names.join(t("comma"));
}
