// The form: one question a screen. Each function makes the body of one screen from a draft that it changes in place.

import { bodyMap } from "/static/body.js";
import { choices, field, h, list, svg } from "/static/dom.js";
import { named, t } from "/static/words.js";

// Skin at individual typology angles of 60, 48, 34, 19, -10 and -45 degrees (Chardon et al. 1991), sRGB.
const TONES = ["#ecc2a9", "#d0a68d", "#b98f77", "#a97f67", "#8f674f", "#60402c"];
const NUMERALS = ["I", "II", "III", "IV", "V", "VI"];
const OLDEST = 120;

export const STEPS = ["patient", "site", "skin", "symptoms", "diagnosis", "consent"];

/** An empty draft; what is known of the same patient is carried over. */
export function emptyDraft(patient = null) {
  return {
    marks: { tool: "outline", centre: null, box: null, outline: null },
    form: {
      patient: "", lesion: "", age: null, sex: "unknown", fitzpatrick: null, ethnicity: "", ...patient,
      site: null, symptoms: {}, diagnosis: null, diagnosis_source: null,
    },
    consent: { train: null, share: null, expires: null },
  };
}

/** What of a draft holds for another lesion of the same patient. */
export function samePatient({ patient, age, sex, fitzpatrick, ethnicity }) {
  return { patient, age, sex, fitzpatrick, ethnicity };
}

/** What is missing before a step can be left, as a key of words; null for nothing. */
export function missing(step, draft) {
  const { form, consent } = draft;
  if (step === "patient") {
    if (!form.patient.trim()) return "patient.missing";
    if (Number.isNaN(form.age) || form.age > OLDEST || form.age < 0) return "patient.age.wrong";
  }
  if (step === "diagnosis" && form.diagnosis && !form.diagnosis_source) return "diagnosis.source.missing";
  if (step === "consent" && (consent.train === null || consent.share === null)) return "consent.missing";
  return null;
}

const yes = (value) => ({ value, text: t(value ? "yes" : "no") });

export const BODIES = {
  patient: ({ form }) => [
    field(t("patient.key"), form.patient, (value) => { form.patient = value; }, { maxlength: 120, required: true, "data-name": "patient" }, t("patient.key.note")),
    field(t("patient.lesion"), form.lesion, (value) => { form.lesion = value; }, { maxlength: 120, "data-name": "lesion" }, t("patient.lesion.note")),
    field(t("patient.age"), form.age ?? "", (value) => { form.age = value.trim() === "" ? null : Number(value); },
      { inputmode: "numeric", maxlength: 3, class: "short", "data-name": "age" }),
    choices(t("patient.sex"), ["female", "male", "other", "unknown"].map((value) => ({ value, text: t(`sex.${value}`) })),
      form.sex, (value) => { form.sex = value; }, "row"),
  ],
  site: ({ form }, session) => [bodyMap(session.sites, form.site, (site) => { form.site = site; })],
  skin: ({ form }) => [
    choices(
      t("skin.legend"),
      [
        ...TONES.map((tone, i) => ({
          value: i + 1, text: t("skin.type", { type: NUMERALS[i] }), note: t(`skin.t${i + 1}`),
          before: svg("svg", { class: "tone", viewBox: "0 0 10 10", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { width: 10, height: 10, fill: tone })),
        })),
        { value: null, text: t("skin.unknown") },
      ],
      form.fitzpatrick, (value) => { form.fitzpatrick = value; }, "column", t("skin.note"),
    ),
    field(t("skin.ethnicity"), form.ethnicity, (value) => { form.ethnicity = value; }, { maxlength: 60, "data-name": "ethnicity" }, t("skin.ethnicity.note")),
  ],
  symptoms: ({ form }, session) =>
    session.symptoms.map((name) =>
      choices(named("symptom", name), [yes(true), yes(false), { value: null, text: t("notasked") }],
        form.symptoms[name] ?? null, (value) => { form.symptoms[name] = value; }, "row"),
    ),
  diagnosis: ({ form }, session, language) => {
    const source = h("div", { hidden: !form.diagnosis }, choices(
      t("diagnosis.source"),
      ["histology", "consensus", "clinical"].map((value) => ({ value, text: t(`source.${value}`), note: t(`source.${value}.note`) })),
      form.diagnosis_source, (value) => { form.diagnosis_source = value; },
    ));
    return [
      list(t("diagnosis.list"),
        [{ value: "", text: t("diagnosis.unknown") }, ...session.classes.map(({ name, label, labels }) => ({ value: name, text: labels?.[language] ?? label }))],
        form.diagnosis ?? "",
        (value) => {
          form.diagnosis = value || null;
          source.hidden = !value;
          if (!value) form.diagnosis_source = null;
        },
        t("diagnosis.note")),
      source,
    ];
  },
  consent: ({ consent }) => {
    const today = new Date().toISOString().slice(0, 10);
    return [
      choices(t("consent.train"), [yes(true), yes(false)], consent.train, (value) => { consent.train = value; }, "row", t("consent.train.note")),
      choices(t("consent.share"), [yes(true), yes(false)], consent.share, (value) => { consent.share = value; }, "row", t("consent.share.note")),
      field(t("consent.expires"), consent.expires ?? "", (value) => { consent.expires = value || null; },
        { type: "date", min: today, class: "short", "data-name": "expires" }, t("consent.expires.note")),
    ];
  },
};

/** The annotation as the server takes it; coordinates in whole pixels. */
export function annotationOf(draft, centre, size) {
  const { marks, form, consent } = draft;
  const inside = (value, most) => Math.min(most - 1, Math.max(0, Math.round(value)));
  const whole = ([x, y]) => [inside(x, size.width), inside(y, size.height)];
  return {
    centre: whole(centre),
    box: marks.box ? [...whole(marks.box.slice(0, 2)), ...whole(marks.box.slice(2))] : null,
    outline: marks.outline ? marks.outline.map(whole) : null,
    form: {
      ...form, patient: form.patient.trim(), lesion: form.lesion.trim() || null, ethnicity: form.ethnicity.trim() || null, site: form.site ?? "unknown",
    },
    consent,
  };
}
