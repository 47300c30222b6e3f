// The lesion drawn over the photo by a finger, a mouse or the keys: centre, box or outline.

import { h, say, svg } from "/static/dom.js";
import { t } from "/static/words.js";

const STEP = 0.02; // of the photo's width, for an arrow key
const MOST_POINTS = 300;

/** A picture of a bitmap, at most `side` pixels, as a canvas. */
export function picture(bitmap, label, side = 1400) {
  const scale = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
  const canvas = h("canvas", { role: "img", "aria-label": label, class: "photo" });
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/** What is drawn, as SVG over a photo of w x h pixels. */
export function overlay({ centre, box, outline }, w, h_) {
  const unit = Math.max(w, h_) / 100;
  const shapes = [];
  const twice = (tag, attributes) => {
    // Dark under light, so that it is seen on every skin.
    shapes.push(svg(tag, { ...attributes, class: "under", "stroke-width": 1.1 * unit }));
    shapes.push(svg(tag, { ...attributes, class: "over", "stroke-width": 0.5 * unit }));
  };
  if (box) {
    const [x0, y0, x1, y1] = box;
    twice("rect", { x: Math.min(x0, x1), y: Math.min(y0, y1), width: Math.abs(x1 - x0), height: Math.abs(y1 - y0) });
  }
  if (outline?.length > 1) twice(outline.closed === false ? "polyline" : "polygon", { points: outline.map((p) => p.join(",")).join(" ") });
  if (centre) {
    const [x, y] = centre;
    const r = 1.6 * unit;
    twice("path", { d: `M${x - r} ${y}H${x + r}M${x} ${y - r}V${y + r}` });
  }
  return svg("svg", { class: "overlay", viewBox: `0 0 ${w} ${h_}`, "aria-hidden": "true", preserveAspectRatio: "none" }, shapes);
}

/** A photo with what is drawn over it. */
export function drawn(bitmap, marks, label) {
  return h("div", { class: "drawn" }, picture(bitmap, label), overlay(marks, bitmap.width, bitmap.height));
}

/** Fewer points of an outline, none moved by more than `far` (Douglas and Peucker 1973). */
export function simplified(points, far) {
  if (points.length < 4) return points;
  const keep = new Uint8Array(points.length);
  keep[0] = keep[points.length - 1] = 1;
  const stack = [[0, points.length - 1]];
  while (stack.length) {
    const [a, b] = stack.pop();
    const [x0, y0] = points[a];
    const [x1, y1] = points[b];
    const length = Math.hypot(x1 - x0, y1 - y0);
    let [worst, at] = [far, -1];
    for (let i = a + 1; i < b; i++) {
      const [x, y] = points[i];
      const off = length ? Math.abs((x1 - x0) * (y0 - y) - (x0 - x) * (y1 - y0)) / length : Math.hypot(x - x0, y - y0);
      if (off > worst) [worst, at] = [off, i];
    }
    if (at > 0) {
      keep[at] = 1;
      stack.push([a, at], [at, b]);
    }
  }
  return points.filter((_, i) => keep[i]);
}

/** The centre of what is drawn: of the outline's area, of the box, or the point itself. */
export function centreOf({ centre, box, outline }) {
  if (outline?.length > 2) {
    let [area, x, y] = [0, 0, 0];
    outline.forEach(([x0, y0], i) => {
      const [x1, y1] = outline[(i + 1) % outline.length];
      const cross = x0 * y1 - x1 * y0;
      area += cross;
      x += (x0 + x1) * cross;
      y += (y0 + y1) * cross;
    });
    if (Math.abs(area) > 1) return [x / (3 * area), y / (3 * area)];
  }
  if (box) return [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
  return centre;
}

/**
 * The field that is drawn on.
 *
 * @param bitmap   the photo
 * @param marks    {tool, centre, box, outline}, changed in place
 * @param changed  called after each change
 * @returns {element, undo, zoom, use}
 */
export function drawing(bitmap, marks, changed) {
  const { width: w, height: h_ } = bitmap;
  const canvas = picture(bitmap, t("draw.photo"), 2000);
  let layer = overlay(marks, w, h_);
  let cursor = marks.centre ? [...marks.centre] : [w / 2, h_ / 2];
  const cross = h("div", { class: "crosshair", "aria-hidden": "true" });
  const surface = h("div", { class: "surface", tabindex: 0, role: "application", "aria-label": t("draw.keys") }, canvas, layer, cross);
  const element = h("div", { class: "drawfield" }, surface);
  const past = [];
  let stroke = null;
  let keyed = null;
  let scale = 1;

  const copy = () => ({ centre: marks.centre, box: marks.box, outline: marks.outline });
  const remember = () => past.push(copy());
  const clamp = ([x, y]) => [Math.min(w - 1, Math.max(0, x)), Math.min(h_ - 1, Math.max(0, y))];

  function render() {
    const next = overlay(marks, w, h_);
    layer.replaceWith(next);
    layer = next;
  }
  function point(event) {
    const area = canvas.getBoundingClientRect();
    return clamp([((event.clientX - area.left) * w) / area.width, ((event.clientY - area.top) * h_) / area.height]);
  }
  function settle() {
    render();
    changed();
  }
  surface.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || stroke) return;
    event.preventDefault();
    surface.focus({ preventScroll: true });
    surface.classList.remove("keys");
    surface.setPointerCapture(event.pointerId);
    remember();
    stroke = { id: event.pointerId, from: point(event) };
    if (marks.tool === "centre") Object.assign(marks, { centre: stroke.from, box: null, outline: null });
    if (marks.tool === "box") Object.assign(marks, { box: [...stroke.from, ...stroke.from], outline: null, centre: null });
    if (marks.tool === "outline") {
      Object.assign(marks, { outline: [stroke.from], box: null, centre: null });
      marks.outline.closed = false;
    }
    render();
  });
  surface.addEventListener("pointermove", (event) => {
    if (!stroke || event.pointerId !== stroke.id) return;
    const at = point(event);
    if (marks.tool === "centre") marks.centre = at;
    if (marks.tool === "box") marks.box = [...stroke.from, ...at];
    if (marks.tool === "outline") marks.outline.push(at);
    render();
  });
  const end = (event) => {
    if (!stroke || event.pointerId !== stroke.id) return;
    stroke = null;
    const before = past[past.length - 1];
    const least = Math.max(w, h_) / 100;
    if (marks.tool === "box") {
      const [x0, y0, x1, y1] = marks.box;
      marks.box = [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
      if (marks.box[2] - marks.box[0] < least || marks.box[3] - marks.box[1] < least) return toosmall(before);
    }
    if (marks.tool === "outline") {
      let far = Math.max(w, h_) / 800;
      let kept = simplified(marks.outline, far);
      while (kept.length > MOST_POINTS) kept = simplified(marks.outline, (far *= 1.5));
      const across = kept.map(([x]) => x);
      const down = kept.map(([, y]) => y);
      const size = Math.min(Math.max(...across) - Math.min(...across), Math.max(...down) - Math.min(...down));
      if (kept.length < 3 || size < least) return toosmall(before);
      marks.outline = kept;
    }
    say(t(`draw.done.${marks.tool}`));
    settle();
    return undefined;
  };
  surface.addEventListener("pointerup", end);
  surface.addEventListener("pointercancel", () => {
    if (stroke) {
      stroke = null;
      Object.assign(marks, past.pop());
      settle();
    }
  });
  function toosmall(before) {
    past.pop();
    Object.assign(marks, before);
    say(t("draw.small"));
    settle();
  }
  surface.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (move) {
      event.preventDefault();
      surface.classList.add("keys");
      const step = event.shiftKey ? STEP / 4 : STEP;
      cursor = clamp([cursor[0] + move[0] * step * w, cursor[1] + move[1] * step * w]);
      place();
      say(t("draw.at", { x: Math.round((100 * cursor[0]) / w), y: Math.round((100 * cursor[1]) / h_) }));
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      surface.classList.add("keys");
      place();
      mark();
    } else if (event.key === "Backspace") {
      event.preventDefault();
      undo();
    }
  });
  function mark() {
    remember();
    const at = [...cursor];
    if (marks.tool === "centre") Object.assign(marks, { centre: at, box: null, outline: null });
    if (marks.tool === "box") {
      if (keyed) {
        const [x, y] = keyed;
        Object.assign(marks, {
          box: [Math.min(x, at[0]), Math.min(y, at[1]), Math.max(x, at[0]), Math.max(y, at[1])], outline: null, centre: null,
        });
        keyed = null;
      } else {
        keyed = at;
        Object.assign(marks, { box: null, outline: null, centre: at });
        say(t("draw.corner"));
        return render();
      }
    }
    if (marks.tool === "outline") {
      const before = marks.outline ?? [];
      Object.assign(marks, { outline: [...before, at], box: null, centre: null });
      say(t("draw.points", { n: marks.outline.length }));
      return settle();
    }
    say(t(`draw.done.${marks.tool}`));
    return settle();
  }
  function place() {
    cross.style.left = `${(100 * cursor[0]) / w}%`;
    cross.style.top = `${(100 * cursor[1]) / h_}%`;
  }
  function undo() {
    if (past.length) {
      Object.assign(marks, past.pop());
      keyed = null;
      say(t("draw.undone"));
      settle();
    }
  }
  function zoom(factor) {
    scale = Math.min(4, Math.max(1, scale * factor));
    const [x, y] = centreOf(marks) ?? [w / 2, h_ / 2];
    surface.style.width = `${100 * scale}%`;
    requestAnimationFrame(() => {
      element.scrollLeft = (x / w) * surface.offsetWidth - element.clientWidth / 2;
      element.scrollTop = (y / h_) * surface.offsetHeight - element.clientHeight / 2;
    });
  }
  place();
  return { element, undo, zoom, render };
}

/** Whether enough is drawn to go on. */
export function complete(marks) {
  return marks.outline?.length > 2 || Boolean(marks.box) || Boolean(marks.tool === "centre" && marks.centre);
}
