// The camera's screen: picture, ring, one sentence of guidance, and the button that takes the photo.

import { actions, button, h, say, svg } from "/static/dom.js";
import { PARTS, first, guide } from "/static/guidance.js";
import { t } from "/static/words.js";

const MIDDLE = 0.6; // share of the frame's sides that is judged: where the lesion is, at the scale of the checks
const COARSE = 64; // pixels of the whole frame, for framing
const CHANGE_MS = 700; // a sentence must hold for so long before it is shown
const SPEAK_MS = 3000; // and a screen reader hears at most one in this time

/**
 * Show the camera.
 *
 * @param table   constants of the quality checks, or null
 * @param taken   called with (blob, device) of a photo
 * @param back    called to leave
 * @returns {element, stop}
 */
export function camera({ table, taken, back }) {
  const video = h("video", { playsinline: true, muted: true, "aria-label": t("camera.video") });
  video.muted = true;
  const arcs = PARTS.map((part, i) =>
    svg("circle", {
      class: "arc unknown", "data-part": part, cx: 50, cy: 50, r: 46, pathLength: 400,
      "stroke-dasharray": "92 308", "stroke-dashoffset": String(-100 * i - 4),
    }),
  );
  const ring = svg("svg", { class: "ring", viewBox: "0 0 100 100", "aria-hidden": "true" }, arcs);
  const sentence = h("p", { class: "guidance", "data-state": "unknown" }, t("camera.starting"));
  const parts = Object.fromEntries(PARTS.map((part) => [part, h("span", { class: "state" }, t("state.unknown"))]));
  const chips = h(
    "ul",
    { class: "chips" },
    PARTS.map((part) => h("li", { "data-part": part, class: "unknown" }, h("strong", {}, t(`part.${part}`)), " ", parts[part])),
  );
  const shutter = button(t("camera.take"), take, "primary shutter", { disabled: true });
  const input = h("input", {
    type: "file", accept: "image/jpeg,image/png,image/webp", class: "file", id: "file", onchange: () => chosen(input.files),
  });
  const file = h("label", { class: "button second filelabel", for: "file" }, t("camera.file"));
  const box = h("div", { class: "viewfinder" }, video, ring);
  const element = h(
    "section",
    { class: "screen wide camera" },
    h("h1", { tabindex: -1 }, t("camera.title")),
    h("div", { class: "split" }, h("div", {}, sentence, box),
      h("div", { class: "side" }, chips,
        h("p", { class: "note" }, t("camera.hint")),
        actions(shutter, h("div", { class: "filebox" }, input, file), button(t("back"), back, "plain")))),
  );
  let stream = null;
  let ended = false;
  let lens = "";
  let shown = null;
  let wanted = { key: null, since: 0 };
  let spoken = -SPEAK_MS;
  const times = [];
  const [fine, coarse] = [0, 1].map(() => document.createElement("canvas").getContext("2d", { willReadFrequently: true }));

  async function start() {
    if (!navigator.mediaDevices?.getUserMedia) return without("camera.insecure");
    try {
      stream = await navigator.mediaDevices.getUserMedia({
        audio: false,
        video: { facingMode: { ideal: "environment" }, width: { ideal: 2560 }, height: { ideal: 1920 } },
      });
    } catch (error) {
      return without(error.name === "NotAllowedError" ? "camera.refused" : "camera.absent");
    }
    if (ended) return halt();
    lens = stream.getVideoTracks()[0].label;
    video.srcObject = stream;
    await video.play().catch(() => {});
    if (ended) return halt();
    shutter.disabled = false;
    next();
    return undefined;
  }

  function without(key) {
    if (ended) return;
    element.classList.add("nocamera");
    box.hidden = true;
    chips.hidden = true;
    shutter.hidden = true;
    file.className = "button primary filelabel";
    sentence.textContent = t(key);
    sentence.dataset.state = "warn";
    say(t(key));
  }

  function next() {
    if (ended) return;
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(judge);
    else requestAnimationFrame(judge);
  }

  function judge() {
    if (ended) return;
    if (video.videoWidth && table) {
      const { videoWidth: w, videoHeight: h_ } = video;
      const longer = Math.max(w, h_);
      const scale = Math.min(1, table.long_side_px / longer);
      const middle = part(fine, (w * (1 - MIDDLE)) / 2, (h_ * (1 - MIDDLE)) / 2, w * MIDDLE, h_ * MIDDLE, scale);
      show(guide(middle, part(coarse, 0, 0, w, h_, COARSE / longer), table));
      const now = performance.now();
      times.push(now);
      while (now - times[0] > 2000) times.shift();
      if (times.length > 2) {
        element.dataset.framesPerSecond = ((1000 * (times.length - 1)) / (now - times[0])).toFixed(1);
      }
    }
    next();
  }

  function part(context, left, top, w, h_, scale) {
    const { canvas } = context;
    const width = Math.max(8, Math.round(w * scale));
    const height = Math.max(8, Math.round(h_ * scale));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    context.drawImage(video, left, top, w, h_, 0, 0, width, height);
    return context.getImageData(0, 0, width, height);
  }

  function show(states) {
    PARTS.forEach((part, i) => {
      const { status } = states[part];
      if (arcs[i].dataset.status === status) return;
      arcs[i].dataset.status = status;
      arcs[i].setAttribute("class", `arc ${status}`);
      parts[part].textContent = t(`state.${status}`);
      parts[part].parentElement.className = status;
    });
    const need = first(states);
    const key = need ? `guide.${need.check}` : "guide.good";
    const now = performance.now();
    if (key !== wanted.key) wanted = { key, since: now };
    if (key !== shown && now - wanted.since >= CHANGE_MS) {
      shown = key;
      sentence.textContent = t(key);
      sentence.dataset.state = need ? need.status : "pass";
    }
    if (shown && now - spoken >= SPEAK_MS) {
      spoken = now;
      say(t(shown));
    }
  }

  async function take() {
    shutter.disabled = true;
    const full = document.createElement("canvas");
    full.width = video.videoWidth;
    full.height = video.videoHeight;
    full.getContext("2d").drawImage(video, 0, 0);
    const blob = await new Promise((resolve) => full.toBlob(resolve, "image/jpeg", 0.95));
    if (blob) taken(blob, await device(lens));
    else shutter.disabled = false;
  }

  async function chosen(files) {
    if (files.length) taken(files[0], await device("file"));
  }

  function halt() {
    ended = true;
    stream?.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
  }

  start();
  return { element, stop: halt };
}

/** What is known of this device: {make, model, os, lens}. */
async function device(lens) {
  const about = navigator.userAgentData;
  const more = await about?.getHighEntropyValues?.(["model", "platformVersion"]).catch(() => ({}));
  const os = [about?.platform, more?.platformVersion].filter(Boolean).join(" ");
  return { make: "", model: more?.model ?? "", os: os.slice(0, 80), lens: lens.slice(0, 80) };
}

