// What the model answers, in words: alarm first, then the likeliest class and the likeliest malignant one, then how sure.

import { button, choices, field, h } from "/static/dom.js";
import { listed, named, share, t } from "/static/words.js";

/**
 * The body of the answer's screen and the question to a second reader.
 *
 * @param answer   of the server, or null without a model
 * @param session  of the server
 * @param language now
 * @param parts    {photo, again, review, reviewed}
 * @returns {body, ask}
 */
export function answerBody(answer, session, language, { photo, again, review, reviewed }) {
  const notice = h("p", { class: "research", role: "note" }, answer?.notice?.[language] ?? session.notice?.[language] ?? t("notice"));
  const ask = reader(review, reviewed);
  if (!answer) {
    const text = session.model
      ? [h("p", {}, t("answer.none")), button(t("answer.again"), again)]
      : [h("p", {}, t("answer.nomodel"))];
    return { body: h("div", { class: "split" }, photo, h("div", { class: "side" }, text, notice)), ask };
  }
  const bad = new Set(session.model?.malignant ?? []);
  const rows = [...answer.probabilities].sort((a, b) => b.p - a.p);
  const malignant = ({ name, malignant: said }) => said ?? bad.has(name);
  const listedNames = Object.fromEntries(session.classes.map((one) => [one.name, one.labels?.[language] ?? one.label]));
  const name = (row) => listedNames[row.name] ?? named("diagnosis.class", row.name, row.label);
  const labels = Object.fromEntries(rows.map((row) => [row.name, name(row)]));
  const top = rows[0];
  const worst = rows.find(malignant);
  const alarm = answer.veto || answer.malignancy >= answer.threshold;
  const sure = sureness(answer.entropy, rows);
  const set = answer.prediction_set;
  const reasons = answer.refer_reasons ?? [];
  const line = (row, more = "") =>
    h("li", { class: malignant(row) ? "malignant" : "" },
      h("span", { class: "name" }, name(row), malignant(row) && h("small", {}, t("answer.malignant"))),
      h("meter", { min: 0, max: 1, value: row.p, "aria-hidden": "true" }),
      h("span", { class: "p" }, share(row.p)), more);
  return {
    body: h(
      "div",
      { class: "split" },
      photo,
      h(
        "div",
        { class: "side" },
        notice,
        h("p", { class: `alarm ${alarm ? "on" : "off"}`, role: "status" },
          h("strong", {}, t(answer.veto ? "answer.veto" : alarm ? "answer.alarm" : "answer.noalarm")),
          " ", t("answer.malignancy", { p: share(answer.malignancy), threshold: share(answer.threshold) })),
        reasons.includes("untrained") && h("p", { class: "problem" }, h("strong", {}, t("answer.untrained"))),
        reasons.length > 0 && h("p", { class: "abstain" }, h("strong", {}, t("answer.refer")), " ",
          listed(reasons.map((why) => named("refer", why)))),
        answer.abstain && h("p", { class: "abstain" }, h("strong", {}, t("answer.abstain")), " ",
          listed(answer.abstain_why.map((why) => named("abstain", why)))),
        h("h2", {}, t("answer.set")),
        h("p", { class: "set" }, set.length === rows.length ? t("answer.set.all") : set.length ? listed(set.map((one) => labels[one] ?? one)) : t("answer.set.empty")),
        h("dl", { class: "two" },
          h("dt", {}, t("answer.top")), h("dd", {}, name(top), " · ", share(top.p)),
          worst && [h("dt", {}, t("answer.worst")), h("dd", {}, name(worst), " · ", share(worst.p))],
          h("dt", {}, t("answer.sure")), h("dd", {}, t(`sure.${sure}`))),
        h("details", {}, h("summary", {}, t("answer.all")), h("ul", { class: "bars" }, rows.map((row) => line(row))),
          h("p", { class: "note" }, t("answer.seconds", { seconds: Number(answer.seconds ?? 0).toFixed(1), model: answer.model?.name ?? session.model?.name ?? "" }))),
      ),
    ),
    ask,
  };
}

/** How sure, by the entropy of the probabilities as a share of that of equal ones, 0 to 1. */
function sureness(entropy, rows) {
  const own = rows.reduce((sum, { p }) => sum - (p > 0 ? p * Math.log(p) : 0), 0) / Math.log(Math.max(2, rows.length));
  const part = Number.isFinite(entropy) && entropy >= 0 && entropy <= 1 ? entropy : own;
  return part < 0.35 ? "high" : part < 0.7 ? "middle" : "low";
}

function reader(review, reviewed) {
  if (reviewed) return h("p", { class: "note" }, t("review.done"));
  let agrees = null;
  let note = "";
  const lack = h("p", { class: "missing", role: "alert" });
  return h("details", { class: "review" }, h("summary", {}, t("review.title")),
    choices(t("review.agrees"), [{ value: true, text: t("yes") }, { value: false, text: t("no") }], agrees, (value) => { agrees = value; }, "row"),
    field(t("review.note"), "", (value) => { note = value; }, { maxlength: 1000 }, t("review.note.note")),
    lack,
    button(t("review.go"), () => {
      if (agrees === null) lack.textContent = t("review.missing");
      else review({ agrees, diagnosis: null, note: note.trim() || null });
    }));
}
