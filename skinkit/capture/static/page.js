// The photo page: which screen is shown, what is kept, and what is sent. One task a screen:
// pair -> start -> camera -> verdict -> draw -> form -> consent -> answer -> sealed.

import * as api from "/static/api.js";
import { answerBody } from "/static/answer.js";
import { camera } from "/static/camera.js";
import { actions, button, choices, field, h, say } from "/static/dom.js";
import { centreOf, complete, drawing, drawn, picture } from "/static/draw.js";
import { BODIES, STEPS, annotationOf, emptyDraft, missing, samePatient } from "/static/form.js";
import * as outbox from "/static/outbox.js";
import { LANGUAGES, language, named, preferred, speak, t } from "/static/words.js";

const ORDER = ["camera", "verdict", "draw", ...STEPS, "answer"];
const REASONS = ["best", "patient", "only"];
const WAITS_S = [1, 2, 4, 8, 15, 30];

const state = {
  session: null, table: null, screen: "start", record: null, bitmap: null, verdict: null, draft: emptyDraft(),
  answer: null, sealed: null, problem: null, pending: null, list: [], waiting: [], regionFailed: false,
};
let ending = null; // of the screen that is shown
let wake = null; // of a waiting upload

// ------------------------------------------------------------------------------------------------------- frame

function frame() {
  document.title = `${t(`${state.screen}.title`)} · skinkit`;
  const place = ORDER.indexOf(state.screen);
  document.getElementById("step").textContent = place < 0 ? "" : t("step", { n: place + 1, of: ORDER.length });
  document.getElementById("notice").textContent = state.session?.notice?.[language()] ?? t("notice");
  const group = document.getElementById("languages");
  group.setAttribute("aria-label", t("languages"));
  group.replaceChildren(
    ...Object.entries(LANGUAGES).map(([code, name]) =>
      button(name, () => change(code), "tongue", { lang: code, "aria-pressed": String(code === language()) }),
    ),
  );
}

async function change(code) {
  try {
    await speak(code, true);
  } catch (error) {
    say(String(error));
    return;
  }
  show(state.screen, false);
  document.querySelector(`#languages [lang="${code}"]`)?.focus();
}

/** Show a screen; the focus goes to its heading. */
function show(name, focus = true) {
  ending?.();
  ending = null;
  if (name !== state.screen) state.problem = null;
  state.screen = name;
  const main = document.getElementById("screen");
  const element = SCREENS[name]();
  main.replaceChildren(element);
  main.setAttribute("aria-busy", "false");
  main.dataset.screen = name;
  frame();
  document.body.dataset.ready = name;
  if (focus) {
    window.scrollTo(0, 0);
    element.querySelector("h1")?.focus({ preventScroll: true });
  }
}

/** What went wrong, as found and what to do. */
function trouble(error) {
  if (!error) return null;
  const torn = error instanceof api.Torn;
  const status = torn ? "torn" : `s${error.status ?? ""}`;
  const own = language() === "en" && error.found;
  const foundText = own ? error.found : named("error", `${status}.found`, t("error.other.found"));
  const fixText = own ? error.fix : named("error", `${status}.fix`, t("error.other.fix"));
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("p", {}, h("strong", {}, t("error.found")), " ", foundText),
    h("p", {}, h("strong", {}, t("error.fix")), " ", fixText),
    !own && error.found && h("p", { class: "note", lang: "en" }, `${error.found}. ${error.fix}`),
  );
}

/** Do what asks the server; an error is shown on the screen, a lost session leads to pairing. */
async function asked(act) {
  const main = document.getElementById("screen");
  const where = state.screen;
  main.setAttribute("aria-busy", "true");
  main.querySelectorAll(".actions button").forEach((one) => { one.disabled = true; });
  try {
    await act();
    state.problem = null;
  } catch (error) {
    if (error.status === 401 && where !== "pair") {
      state.after = where;
      show("pair");
    } else if (error instanceof api.Torn || error instanceof api.Refused) {
      state.problem = error;
      show(where, false);
      document.querySelector(".problem")?.scrollIntoView({ block: "center" });
    } else throw error;
  } finally {
    main.setAttribute("aria-busy", "false");
    main.querySelectorAll(".actions button").forEach((one) => { one.disabled = false; });
  }
}

function screen(name, ...body) {
  return h("section", { class: `screen ${name}` }, h("h1", { tabindex: -1 }, t(`${name}.title`)), trouble(state.problem), ...body);
}

// ----------------------------------------------------------------------------------------------------- screens

const SCREENS = {
  pair() {
    let code = "";
    const submit = (event) => {
      event.preventDefault();
      asked(async () => {
        await api.pair(code.trim());
        await enter();
      });
    };
    return screen("pair", h("form", { onsubmit: submit },
      h("p", { class: "lead" }, t("pair.what")),
      field(t("pair.code"), "", (value) => { code = value; }, { maxlength: 64, autocapitalize: "none", spellcheck: "false", "data-name": "code" }, t("pair.code.note")),
      actions(h("button", { type: "submit", class: "button primary" }, t("pair.go")))));
  },

  start() {
    const rows = state.list.map((one) =>
      h("li", {}, h("button", { type: "button", class: "button row", onclick: () => asked(() => resume(one.record_id)) },
        h("span", { class: "code" }, short(one.record_id)),
        h("span", {}, t(`left.${one.state}`)),
        h("span", { class: "note" }, one.captured_at))));
    const held = state.waiting.map((entry) =>
      h("li", {}, h("button", { type: "button", class: "button row", onclick: () => send(entry) },
        h("span", { class: "code" }, entry.record ? short(entry.record) : t("start.new")),
        h("span", {}, t("start.unsent")),
        h("span", { class: "note" }, entry.taken.slice(0, 16).replace("T", " ")))));
    return screen("start",
      h("p", { class: "lead" }, t("start.what")),
      h("ol", { class: "plan" }, ["camera", "draw", "form", "answer"].map((one) => h("li", {}, t(`start.plan.${one}`)))),
      actions(button(t("start.go"), () => begin(), "primary")),
      (rows.length > 0 || held.length > 0) && h("section", { class: "left", "aria-labelledby": "left" },
        h("h2", { id: "left" }, t("start.left")), h("p", { class: "note" }, t("start.left.note")), h("ul", {}, held, rows)),
      h("p", { class: "note about" }, state.session.model ? t("start.model", { name: state.session.model.name }) : t("start.nomodel")));
  },

  camera() {
    const made = camera({ table: state.table, taken: captured, back: () => home() });
    ending = made.stop;
    return made.element;
  },

  sending() {
    return screen("sending",
      h("div", { class: "split" }, state.bitmap ? picture(state.bitmap, t("photo")) : null,
        h("div", { class: "side" }, h("p", { class: "lead", id: "sendstate" }, t("sending.now")), h("progress", { "aria-label": t("sending.title") }),
          h("p", { class: "note" }, t(state.pending?.lasting === false ? "sending.memory" : "sending.kept")),
          actions(button(t("sending.again"), () => wake?.(), "primary", { id: "again", hidden: true }),
            button(t("sending.later"), () => home(), "plain")))));
  },

  unsent() {
    const entry = state.pending;
    const unusable = [413, 415, 400].includes(state.problem?.status);
    return screen("unsent",
      h("div", { class: "split" }, state.bitmap ? picture(state.bitmap, t("photo")) : null,
        h("div", { class: "side" }, h("p", {}, t(unusable ? "unsent.unusable" : "unsent.kept")),
          actions(
            unusable
              ? button(t("verdict.retake"), async () => { await outbox.drop(entry.key); show("camera"); }, "primary")
              : button(t("sending.again"), () => send(entry), "primary"),
            !unusable && button(t("unsent.drop"), async () => { await outbox.drop(entry.key); home(); }, "danger"),
            button(t("home"), () => home(), "plain")))));
  },

  verdict() {
    const { verdict, checks, retakes_left: left } = state.verdict;
    const failed = Object.entries(checks).filter(([, one]) => one.status === "fail");
    const warned = Object.entries(checks).filter(([, one]) => one.status === "warn");
    const item = ([name, one]) =>
      h("li", { class: one.status }, h("strong", {}, named("check", name)), " ", h("span", {}, one.remedy ? named("remedy", one.remedy) : t(`state.${one.status}`)));
    const fails = verdict === "fail";
    const again = button(t("verdict.retakes", { n: left }), () => show("camera"), fails ? "primary" : "second", { disabled: left <= 0 });
    return screen("verdict",
      h("div", { class: "split" },
        state.bitmap && picture(state.bitmap, t("photo")),
        h("div", { class: "side" },
          h("p", { class: `verdictword ${verdict}`, role: "status" }, t(`verdict.${verdict}`)),
          failed.length > 0 && h("ul", { class: "remedies" }, failed.map(item)),
          warned.length > 0 && h("ul", { class: "remedies" }, warned.map(item)),
          fails && left <= 0 && h("p", {}, t("verdict.last")),
          h("details", {}, h("summary", {}, t("verdict.all")), h("ul", { class: "allchecks" },
            Object.entries(checks).map(([name, one]) => h("li", { class: one.status }, named("check", name), ": ", t(`state.${one.status}`))))),
          fails
            ? actions(left > 0 ? again : null, button(t("verdict.keep"), () => show("reason"), left > 0 ? "second" : "primary"), button(t("home"), () => home(), "plain"))
            : actions(button(t("verdict.use"), () => show("draw"), "primary"), again))));
  },

  reason() {
    let chosen = REASONS[0];
    let text = "";
    return screen("reason",
      h("p", { class: "lead" }, t("reason.what")),
      choices(t("reason.legend"), REASONS.map((value) => ({ value, text: t(`reason.${value}`) })), chosen, (value) => { chosen = value; }),
      field(t("reason.more"), "", (value) => { text = value; }, { maxlength: 120, "data-name": "reason" }, t("reason.more.note")),
      actions(
        button(t("reason.go"), () => asked(async () => {
          const said = [t(`reason.${chosen}`), text.trim()].filter(Boolean).join("; ");
          const answered = await api.override(state.record, said);
          if (state.regionFailed) {
            state.regionFailed = false;
            await classify();
          } else {
            state.verdict = { ...state.verdict, ...answered, verdict: state.verdict.verdict };
            await see(await api.photo(state.record)); // the best of those taken, which need not be the last
            show("draw");
          }
        }), "primary"),
        button(t("back"), () => show("verdict"), "plain")));
  },

  draw() {
    const { marks } = state.draft;
    const go = button(t("next"), () => { keep(); show("patient"); }, "primary", { disabled: !complete(marks) });
    const made = drawing(state.bitmap, marks, () => { go.disabled = !complete(marks); keep(); });
    const tools = choices(t("draw.tool"), ["outline", "box", "centre"].map((value) => ({ value, text: t(`draw.tool.${value}`) })), marks.tool, (value) => {
      marks.tool = value;
      go.disabled = !complete(marks);
      hint.textContent = t(`draw.hint.${value}`);
    }, "row");
    const hint = h("p", { class: "lead" }, t(`draw.hint.${marks.tool}`));
    return h("section", { class: "screen draw wide" }, h("h1", { tabindex: -1 }, t("draw.title")), trouble(state.problem),
      h("div", { class: "split" },
        h("div", {}, hint, made.element),
        h("div", { class: "side" }, tools,
          h("div", { class: "tools" },
            button(t("draw.undo"), () => made.undo(), "second small"),
            button(t("draw.larger"), () => made.zoom(2), "second small"),
            button(t("draw.smaller"), () => made.zoom(0.5), "second small")),
          h("p", { class: "note" }, t("draw.keys.note")),
          actions(go, button(t("back"), () => show("verdict"), "plain")))));
  },

  ...Object.fromEntries(STEPS.map((step, i) => [step, () => {
    const last = step === "consent";
    return screen(step,
      h("p", { class: "lead" }, t(`${step}.what`)),
      h("form", { class: "questions", novalidate: true, oninput: () => keep(), onchange: () => keep(), onsubmit: (event) => { event.preventDefault(); next(step); } },
        BODIES[step](state.draft, state.session, language()),
        h("p", { class: "missing", role: "alert", id: "missing" }),
        actions(h("button", { type: "submit", class: "button primary" }, t(last ? "consent.go" : "next")),
          button(t("back"), () => { keep(); show(i ? STEPS[i - 1] : "draw"); }, "plain"))));
  }])),

  region() {
    const { checks } = state.verdict;
    const failed = Object.entries(checks).filter(([, one]) => one.status === "fail");
    return screen("region",
      h("div", { class: "split" }, drawn(state.bitmap, state.draft.marks, t("answer.photo")),
        h("div", { class: "side" },
          h("p", { class: "verdictword fail", role: "status" }, t("region.what")),
          h("ul", { class: "remedies" }, failed.map(([name, one]) =>
            h("li", { class: "fail" }, h("strong", {}, named("check", name)), " ", h("span", {}, named("remedy", one.remedy))))),
          actions(
            state.verdict.retakes_left > 0 && button(t("verdict.retakes", { n: state.verdict.retakes_left }), () => show("camera"), "primary"),
            button(t("verdict.keep"), () => { state.regionFailed = true; show("reason"); }, "second"),
            button(t("region.redraw"), () => show("draw"), "plain")))));
  },

  answer() {
    const { body, ask } = answerBody(state.answer, state.session, language(), {
      photo: drawn(state.bitmap, state.draft.marks, t("answer.photo")),
      again: () => asked(classify),
      review: (content) => asked(async () => {
        await api.review(state.record, content);
        say(t("review.done"));
        state.reviewed = true;
        show("answer", false);
      }),
      reviewed: state.reviewed,
    });
    return h("section", { class: "screen answer wide" }, h("h1", { tabindex: -1 }, t("answer.title")), trouble(state.problem), body, ask,
      actions(
        button(t("answer.seal"), () => asked(async () => {
          const done = await api.seal(state.record);
          state.sealed = { id: state.record, sha256: done.sha256, withdrawn: null };
          sessionStorage.removeItem(draftKey(state.record));
          show("sealed");
        }), "primary"),
        !state.reviewed && state.draft.form.patient && button(t("answer.change"), () => show("patient"), "plain"),
        button(t("home"), () => home(), "plain")));
  },

  sealed() {
    const { id, withdrawn } = state.sealed;
    if (withdrawn) {
      return screen("sealed", h("p", { class: "lead", role: "status" }, t("withdraw.done")),
        withdrawn.length > 0
          ? [h("p", {}, t("withdraw.models")), h("ul", {}, withdrawn.map((one) => h("li", {}, one.name ?? String(one))))]
          : h("p", {}, t("withdraw.nomodels")),
        actions(button(t("sealed.new"), () => begin(), "primary"), button(t("home"), () => home(), "plain")));
    }
    return screen("sealed",
      h("p", { class: "lead" }, t("sealed.what")),
      h("p", { class: "bigcode", "aria-label": t("sealed.code", { code: short(id) }) }, short(id)),
      h("p", { class: "note" }, t("sealed.note")),
      actions(
        button(t("sealed.new"), () => begin(), "primary"),
        state.draft.form.patient && button(t("sealed.same"), () => begin(samePatient(state.draft.form)), "second"),
        button(t("home"), () => home(), "plain")),
      h("details", {}, h("summary", {}, t("withdraw.title")), h("p", {}, t("withdraw.what")),
        button(t("withdraw.go"), () => asked(async () => {
          const gone = await api.withdraw(id);
          state.sealed.withdrawn = gone.models ?? [];
          show("sealed");
        }), "danger")));
  },
};

// ------------------------------------------------------------------------------------------------------- steps

const short = (id) => id.slice(0, 8).toUpperCase();
const draftKey = (id) => `skinkit-draft-${id}`;

/** Keep the draft for a reload of this tab; it goes when the tab is closed, since it names a patient. */
function keep() {
  if (state.record) sessionStorage.setItem(draftKey(state.record), JSON.stringify(state.draft));
}

function next(step) {
  const lack = missing(step, state.draft);
  const place = document.getElementById("missing");
  if (lack) {
    place.textContent = t(lack);
    place.scrollIntoView({ block: "center" });
    return;
  }
  keep();
  if (step === "consent") asked(annotate);
  else show(STEPS[STEPS.indexOf(step) + 1]);
}

function begin(patient = null) {
  Object.assign(state, {
    record: null, bitmap: null, verdict: null, draft: emptyDraft(patient), answer: null, sealed: null, reviewed: false, regionFailed: false, pending: null,
  });
  show("camera");
}

async function home() {
  wake = null;
  state.pending = null;
  await asked(async () => {
    await lists();
    show("start");
  });
}

async function lists() {
  const kept = (await api.records()).records;
  state.waiting = await outbox.waiting();
  // A record without a photo has nothing to go on with, unless its photo waits here.
  state.list = kept.filter((one) => one.photo).reverse();
}

async function see(blob) {
  state.bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" });
}

async function captured(blob, device) {
  try {
    await see(blob);
  } catch {
    state.bitmap = null; // the server says why it cannot be read
  }
  const marks = emptyDraft().marks;
  state.draft.marks = { ...marks, tool: state.draft.marks.tool };
  const entry = { key: crypto.randomUUID?.() ?? String(Math.random()), record: state.record, blob, device, taken: new Date().toISOString() };
  entry.lasting = await outbox.keep(entry);
  outbox.persist();
  await send(entry);
}

/** Send a photo until the server has it. It is dropped here only then. */
async function send(entry) {
  state.pending = entry;
  state.record = entry.record;
  state.problem = null;
  if (!state.bitmap) await see(entry.blob).catch(() => {});
  show("sending");
  for (let turn = 0; ; turn++) {
    try {
      if (!entry.record) {
        entry.record = (await api.create()).record_id;
        await outbox.keep(entry);
      }
      const answered = await api.sendPhoto(entry.record, entry.blob, entry.device);
      await outbox.drop(entry.key);
      state.record = entry.record;
      if (state.pending !== entry) return; // it was left to go on by itself
      state.verdict = answered;
      state.pending = null;
      keep();
      show("verdict");
      return;
    } catch (error) {
      if (error.status === 401) {
        if (state.pending !== entry) return;
        state.after = "start";
        show("pair");
        return;
      }
      if (error.status === 404) {
        entry.record = null; // withdrawn meanwhile: the photo begins a record of its own
        await outbox.keep(entry);
        if (turn < WAITS_S.length) continue;
      }
      const passing = error instanceof api.Torn || error.status === 429 || error.status >= 500;
      if (!passing || error.status === 507) {
        if (state.pending !== entry) return;
        state.problem = error;
        const kept = error;
        show("unsent");
        state.problem = kept;
        show("unsent");
        return;
      }
      if (!(await waited(WAITS_S[Math.min(turn, WAITS_S.length - 1)], entry))) return;
    }
  }
}

/** Wait before the next try; the button and a connection that is back end it. False once the photo was left. */
async function waited(seconds, entry) {
  const shown = document.getElementById("sendstate");
  if (shown && state.pending === entry) {
    shown.textContent = t("sending.torn", { n: seconds });
    say(t("sending.kept"));
    document.getElementById("again").hidden = false;
  }
  await new Promise((resolve) => {
    wake = resolve;
    window.addEventListener("online", resolve, { once: true });
    setTimeout(resolve, seconds * 1000);
  });
  if (shown && state.pending === entry) shown.textContent = t("sending.now");
  return state.pending === entry;
}

async function resume(id) {
  const record = await api.record(id);
  const kept = sessionStorage.getItem(draftKey(id));
  Object.assign(state, {
    record: id, verdict: record, draft: kept ? JSON.parse(kept) : emptyDraft(), answer: null, sealed: null, reviewed: record.state === "REVIEWED", regionFailed: false, pending: null,
  });
  if (record.state === "NEW") return show("camera");
  if (record.state === "SEALED") {
    state.sealed = { id, sha256: record.sha256, withdrawn: null };
    return show("sealed");
  }
  await see(await api.photo(id));
  if (record.outline || record.roi || record.centre) {
    const tool = record.outline ? "outline" : record.roi ? "box" : "centre";
    state.draft.marks = { tool, centre: record.centre ?? null, box: record.outline ? null : record.roi ?? null, outline: record.outline ?? null };
  }
  if (["ANNOTATED", "REVIEWED"].includes(record.state)) {
    if (record.verdict === "fail" && !record.qc_override) return show("region");
    return classify();
  }
  if (record.state === "QC_PASS" && kept && complete(state.draft.marks)) return show("patient");
  return show(record.state === "QC_PASS" ? "draw" : "verdict");
}

async function annotate() {
  const answered = await api.annotate(state.record, annotationOf(state.draft, centreOf(state.draft.marks), state.bitmap));
  state.verdict = { ...state.verdict, ...answered };
  if (answered.verdict === "fail" && !state.verdict.qc_override) show("region");
  else await classify();
}

async function classify() {
  state.answer = null;
  if (state.session.model) {
    say(t("answer.wait"));
    state.answer = await api.classify(state.record);
  }
  show("answer");
}

// ------------------------------------------------------------------------------------------------------- begin

async function enter() {
  state.session = await api.session();
  if (!state.session.paired) return show("pair");
  state.table ??= await api.qualityTable();
  await lists();
  state.problem = null;
  const after = state.after;
  state.after = null;
  // A session that ended in the midst of a record goes on there.
  return show(after && state.record && state.bitmap ? after : "start");
}

/** The code in the address that the QR code opens; it is removed from the address at once. */
async function pairedByLink() {
  const code = new URLSearchParams(location.hash.slice(1)).get("code");
  if (!code) return;
  history.replaceState(null, "", "/");
  await api.pair(code).catch((error) => { state.problem = error; });
}

window.addEventListener("popstate", () => {
  history.pushState(null, "", "/");
  document.querySelector(".actions .plain")?.click();
});
// Leaving while a photo is on its way asks first; it would be offered again in any case.
window.addEventListener("beforeunload", (event) => {
  if (state.pending) event.preventDefault();
});

async function run() {
  try {
    await speak(preferred("en"));
    await pairedByLink();
    await enter();
  } catch (error) {
    document.getElementById("screen").replaceChildren(
      h("section", { class: "screen" }, h("h1", {}, "skinkit"), h("div", { class: "problem", role: "alert" },
        h("p", {}, "No answer from the server. Check the network, then load this page again."),
        h("p", { lang: "zh-CN" }, "服务器没有响应。请检查网络后重新加载本页。")),
        actions(button("↻ / 重试", () => location.reload(), "primary"))));
    console.warn(error.name);
  }
  history.pushState(null, "", "/");
}

run();
