// Live guidance: what a camera's frame lacks, as four states and one sentence.

import { assessFrame } from "/static/quality.js";

export const PARTS = ["focus", "light", "glare", "framing"];
const CHECKS = { focus: ["focus", "motion"], light: ["exposure", "clipping", "cast"], glare: ["glare"] };
const RANK = { pass: 0, unknown: 1, warn: 2, fail: 3 };
const LEAST_CONTRAST = 14; // grey levels between lesion and skin below which no lesion is seen

/**
 * The states of one frame.
 *
 * @param middle  ImageData of the frame's middle, at the scale at which the checks measure
 * @param whole   ImageData of the whole frame, about 64 pixels wide
 * @param table   constants of the quality checks
 * @returns {part: {status, check}}, `check` names the text of what to do
 */
export function guide(middle, whole, table) {
  const { checks } = assessFrame(middle, table);
  const states = {};
  for (const [part, names] of Object.entries(CHECKS)) {
    let worst = { status: "pass", check: part };
    for (const name of names) {
      const check = checks[name];
      if (check && RANK[check.status] > RANK[worst.status]) worst = { status: check.status, check: check.remedy || name };
    }
    states[part] = worst;
  }
  states.framing = framing(whole, table.framing);
  return states;
}

/** The first part that needs something, the worst first; null where all is well. */
export function first(states) {
  const order = ["framing", "focus", "light", "glare"];
  for (const status of ["fail", "warn"]) {
    const part = order.find((name) => states[name].status === status);
    if (part) return { part, ...states[part] };
  }
  return null;
}

/** Where the lesion may lie in a coarse frame: what differs from the skin at the frame's edge. */
function framing(frame, limits) {
  const { width: across, height: down, data } = frame;
  const cells = new Float32Array(across * down * 3);
  for (let i = 0; i < across * down; i++) {
    for (let c = 0; c < 3; c++) cells[3 * i + c] = data[4 * i + c];
  }
  const edge = [[], [], []];
  for (let y = 0; y < down; y++) {
    for (let x = 0; x < across; x++) {
      if (x > 2 && y > 2 && x < across - 3 && y < down - 3) continue;
      for (let c = 0; c < 3; c++) edge[c].push(cells[3 * (y * across + x) + c]);
    }
  }
  const skin = edge.map((values) => values.sort((a, b) => a - b)[values.length >> 1]);
  const unlike = new Float32Array(across * down);
  for (let i = 0; i < unlike.length; i++) {
    unlike[i] = Math.hypot(cells[3 * i] - skin[0], cells[3 * i + 1] - skin[1], cells[3 * i + 2] - skin[2]) / Math.sqrt(3);
  }
  const sorted = Float32Array.from(unlike).sort();
  const peak = sorted[Math.floor(sorted.length * 0.99)];
  if (peak < LEAST_CONTRAST) return { status: "warn", check: "nothing" };
  const over = Math.max(LEAST_CONTRAST / 2, peak / 2);
  const seen = new Uint8Array(unlike.length);
  let best = null;
  for (let start = 0; start < unlike.length; start++) {
    if (seen[start] || unlike[start] < over) continue;
    const stack = [start];
    seen[start] = 1;
    const found = { area: 0, x: 0, y: 0, edge: 0 };
    while (stack.length) {
      const at = stack.pop();
      const x = at % across;
      const y = (at - x) / across;
      found.area += 1;
      found.x += x;
      found.y += y;
      if (x === 0 || y === 0 || x === across - 1 || y === down - 1) found.edge += 1;
      for (const [next, inside] of [
        [at - 1, x > 0], [at + 1, x < across - 1], [at - across, y > 0], [at + across, y < down - 1],
      ]) {
        if (inside && !seen[next] && unlike[next] >= over) {
          seen[next] = 1;
          stack.push(next);
        }
      }
    }
    // A large piece near the middle is the lesion sooner than one at the edge.
    const aside = Math.hypot(found.x / found.area / across - 0.5, found.y / found.area / down - 0.5);
    found.aside = aside;
    const worth = found.area * (1 - aside);
    if (!best || worth > best.worth) best = { ...found, worth };
  }
  if (!best) return { status: "warn", check: "nothing" };
  const share = best.area / unlike.length;
  if (share > limits.fail_above) return { status: "fail", check: "far" };
  if (share < limits.fail_below) return { status: "fail", check: "near" };
  if (best.edge > 2) return { status: "warn", check: "whole" };
  if (best.aside > 0.25) return { status: "warn", check: "middle" };
  return { status: "pass", check: "framing" };
}
