// Ten quality checks of a photo, as skinkit/images/quality_checks.py computes them, from the same table of constants.
// Research software: no check is a diagnosis.

export const CHECKS = [
  "focus", "motion", "exposure", "clipping", "glare", "cast", "resolution", "framing", "compression", "hair",
];
const GREY = [299, 587, 114]; // ITU-R 601 luma in thousandths
const EDGE = 6 / 29;
const LINEAR = Float64Array.from({ length: 256 }, (_, i) => {
  const c = i / 255;
  return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
});
const TO_XYZ = [
  [0.4124564, 0.3575761, 0.1804375],
  [0.2126729, 0.7151522, 0.072175],
  [0.0193339, 0.119192, 0.9503041],
].map((row) => row.map((v) => v / (row[0] + row[1] + row[2])));

// imageData: {data: RGBA bytes, width, height}; mask: Uint8Array of width * height, or null; fitzpatrick: "1" to "6".
export function assess(imageData, mask, table, fitzpatrick = null) {
  return judge(measure(imageData, mask, table, true), table, fitzpatrick);
}

// A frame of the camera, live: without blockiness and hair, which say nothing of a video frame or cost too much.
export function assessFrame(imageData, table, fitzpatrick = null) {
  return judge({ ...measure(imageData, null, table, false), resolution: null }, table, fitzpatrick);
}

export function measure(imageData, mask, table, whole = true) {
  const { width: fullWidth, height: fullHeight } = imageData;
  const lesion = mask !== null && mask !== undefined && mask.some((v) => v) ? mask : null;
  const small = shrunk(imageData.data, fullWidth, fullHeight, 4, 3, table.long_side_px, 1);
  const { width, height } = small;
  const pixels = small.data.map((v) => Math.floor(v + 0.5 + 1e-7));
  let seen = null;
  if (lesion) {
    const part = shrunk(lesion, fullWidth, fullHeight, 1, 1, table.long_side_px, 0).data.map((v) => (v >= 0.5 ? 1 : 0));
    seen = part.some((v) => v) ? part : null;
  }
  const [top, bottom, left, right] = seen
    ? boxOf(seen, width, height, table.region_margin)
    : [0, height, 0, width];
  const w = right - left;
  const h = bottom - top;
  const grey = new Float64Array(w * h);
  let lightness = 0;
  let clipped = 0;
  let glare = 0;
  const lab = [0, 0, 0];
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      const at = 3 * ((y + top) * width + x + left);
      const [r, g, b] = [pixels[at], pixels[at + 1], pixels[at + 2]];
      grey[y * w + x] = (r * GREY[0] + g * GREY[1] + b * GREY[2]) / 1000;
      toLab(r, g, b, lab);
      lightness += lab[0];
      const { low, high } = table.clipping;
      if (Math.min(r, g, b) <= low || Math.max(r, g, b) >= high) clipped++;
      if (lab[0] > table.glare.lightness && Math.hypot(lab[1], lab[2]) < table.glare.chroma) glare++;
    }
  }
  const [castA, castB] = border(pixels, width, height);
  const [refA, refB] = table.cast.reference;
  const out = {
    focus: focus(grey, w, h),
    motion: motion(grey, w, h),
    exposure: lightness / (w * h),
    clipping: clipped / (w * h),
    glare: glare / (w * h),
    cast: Math.hypot(castA - refA, castB - refB),
    resolution: Math.min(fullWidth, fullHeight),
    framing: null,
    compression: whole ? blockiness(imageData.data, fullWidth, fullHeight) : null,
    hair: whole ? hair(grey, w, h, table.hair.side_px, table.hair.depth) : null,
    contact: null,
    region_px: null,
  };
  if (lesion) {
    const [t, b, l, r] = boxOf(lesion, fullWidth, fullHeight, 0);
    let area = 0;
    for (const v of lesion) area += v ? 1 : 0;
    let edge = 0;
    for (let x = 0; x < fullWidth; x++) {
      edge += (lesion[x] ? 1 : 0) + (lesion[(fullHeight - 1) * fullWidth + x] ? 1 : 0);
    }
    for (let y = 0; y < fullHeight; y++) {
      edge += (lesion[y * fullWidth] ? 1 : 0) + (lesion[y * fullWidth + fullWidth - 1] ? 1 : 0);
    }
    out.framing = area / (fullWidth * fullHeight);
    out.contact = edge / (2 * (fullWidth + fullHeight));
    out.region_px = Math.min(b - t, r - l);
  }
  return out;
}

export function judge(measured, table, fitzpatrick = null) {
  const checks = {};
  for (const name of CHECKS) checks[name] = judged(name, measured, table, fitzpatrick);
  const statuses = Object.values(checks).map((check) => check.status);
  const verdict = statuses.includes("fail") ? "fail" : statuses.includes("warn") ? "warn" : "pass";
  return { checks, verdict };
}

function judged(name, measured, table, fitzpatrick) {
  const value = measured[name];
  const limits = table[name];
  if (value === null) return { value: null, status: "unknown", remedy: "" };
  let low = limits.fail_below ?? -Infinity;
  let high = limits.fail_above ?? Infinity;
  if (name === "exposure") {
    let slack = measured.clipping < table.clipping.fail_above / 2 ? table.unclipped_slack : 0;
    slack += table.darker_types.includes(fitzpatrick) ? table.darker_slack : 0;
    low -= slack;
    high += slack;
  }
  if (value < low) return { value, status: "fail", remedy: `${name}_low` };
  if (value > high) return { value, status: "fail", remedy: `${name}_high` };
  if (name === "resolution" && measured.region_px !== null && measured.region_px < limits.region_fail_below) {
    return { value: measured.region_px, status: "fail", remedy: "resolution_low" };
  }
  if (name === "framing" && measured.contact !== null && measured.contact > limits.contact_above) {
    return { value, status: "fail", remedy: "framing_edge" };
  }
  if (value < (limits.warn_below ?? -Infinity)) return { value, status: "warn", remedy: `${name}_low` };
  if (value > (limits.warn_above ?? Infinity)) return { value, status: "warn", remedy: `${name}_high` };
  return { value, status: "pass", remedy: "" };
}

function toLab(r, g, b, out) {
  const light = [LINEAR[r], LINEAR[g], LINEAR[b]];
  const f = [0, 0, 0];
  for (let i = 0; i < 3; i++) {
    const t = light[0] * TO_XYZ[i][0] + light[1] * TO_XYZ[i][1] + light[2] * TO_XYZ[i][2];
    f[i] = t > EDGE ** 3 ? Math.cbrt(t) : t / (3 * EDGE ** 2) + 4 / 29;
  }
  out[0] = 116 * f[1] - 16;
  out[1] = 500 * (f[0] - f[1]);
  out[2] = 200 * (f[1] - f[2]);
}

// Means of the pixels below each new one; `stride` values a pixel, of which the first `channels` are used.
function shrunk(data, width, height, stride, channels, longer, asIs) {
  const scale = Math.min(1, longer / Math.max(width, height));
  const w = scale === 1 ? width : Math.max(1, Math.floor(width * scale + 0.5));
  const h = scale === 1 ? height : Math.max(1, Math.floor(height * scale + 0.5));
  const value = (v) => (asIs ? v : v ? 1 : 0);
  const out = new Float64Array(w * h * channels);
  const line = new Float64Array(width * channels);
  const [stepX, stepY] = [width / w, height / h];
  for (let y = 0; y < h; y++) {
    line.fill(0);
    const [start, stop] = [y * stepY, (y + 1) * stepY];
    for (let row = Math.floor(start); row < Math.min(height, Math.ceil(stop)); row++) {
      const part = Math.min(stop, row + 1) - Math.max(start, row);
      if (part <= 0) continue;
      for (let x = 0; x < width; x++) {
        for (let c = 0; c < channels; c++) line[x * channels + c] += part * value(data[(row * width + x) * stride + c]);
      }
    }
    for (let x = 0; x < w; x++) {
      const [from, to] = [x * stepX, (x + 1) * stepX];
      for (let column = Math.floor(from); column < Math.min(width, Math.ceil(to)); column++) {
        const part = Math.min(to, column + 1) - Math.max(from, column);
        if (part <= 0) continue;
        for (let c = 0; c < channels; c++) {
          out[(y * w + x) * channels + c] += (part * line[column * channels + c]) / (stepX * stepY);
        }
      }
    }
  }
  return { data: out, width: w, height: h };
}

function boxOf(mask, width, height, margin) {
  let [top, bottom, left, right] = [height, 0, width, 0];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!mask[y * width + x]) continue;
      top = Math.min(top, y);
      bottom = Math.max(bottom, y + 1);
      left = Math.min(left, x);
      right = Math.max(right, x + 1);
    }
  }
  const [byY, byX] = [bottom - top, right - left].map((side) => Math.floor(margin * side + 0.5));
  return [Math.max(0, top - byY), Math.min(height, bottom + byY), Math.max(0, left - byX), Math.min(width, right + byX)];
}

function border(pixels, width, height) {
  const [byY, byX] = [Math.floor(height / 8), Math.floor(width / 8)];
  const none = byY === 0 && byX === 0;
  const lab = [0, 0, 0];
  let [a, b, n] = [0, 0, 0];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!none && y >= byY && y < height - byY && x >= byX && x < width - byX) continue;
      const at = 3 * (y * width + x);
      toLab(pixels[at], pixels[at + 1], pixels[at + 2], lab);
      a += lab[1];
      b += lab[2];
      n++;
    }
  }
  return [a / n, b / n];
}

function focus(grey, w, h) {
  if (Math.min(w, h) < 3) return null;
  let [sum, squares] = [0, 0];
  const n = (w - 2) * (h - 2);
  for (let y = 1; y < h - 1; y++) {
    for (let x = 1; x < w - 1; x++) {
      const at = y * w + x;
      const v = grey[at - w] + grey[at + w] + grey[at - 1] + grey[at + 1] - 4 * grey[at];
      sum += v;
      squares += v * v;
    }
  }
  return squares / n - (sum / n) ** 2;
}

function motion(grey, w, h) {
  if (Math.min(w, h) < 3) return null;
  const energy = new Float64Array(8);
  for (let y = 1; y < h - 1; y++) {
    for (let x = 1; x < w - 1; x++) {
      const at = y * w + x;
      const across = grey[at + 1] - grey[at - 1];
      const down = grey[at + w] - grey[at - w];
      let turn = Math.atan2(down, across);
      if (turn < 0) turn += Math.PI;
      energy[Math.floor(turn / (Math.PI / 8) + 0.5) % 8] += across * across + down * down;
    }
  }
  const most = Math.max(...energy);
  return most > 0 ? Math.min(...energy) / most : null;
}

function blockiness(data, width, height) {
  const rows = new Float64Array(Math.max(0, height - 1));
  const columns = new Float64Array(Math.max(0, width - 1));
  if (Math.min(rows.length, columns.length) < 16) return null;
  const at = (y, x) => {
    const i = 4 * (y * width + x);
    return (data[i] * GREY[0] + data[i + 1] * GREY[1] + data[i + 2] * GREY[2]) / 1000;
  };
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const here = at(y, x);
      if (y + 1 < height) rows[y] += Math.abs(at(y + 1, x) - here) / width;
      if (x + 1 < width) columns[x] += Math.abs(at(y, x + 1) - here) / height;
    }
  }
  let total = 0;
  for (const steps of [rows, columns]) {
    const sums = new Float64Array(8);
    const counts = new Float64Array(8);
    steps.forEach((v, i) => {
      sums[i % 8] += v;
      counts[i % 8]++;
    });
    const means = sums.map((v, i) => v / counts[i]);
    const most = Math.max(...means);
    total += most > 0 ? 1 - (means.reduce((one, other) => one + other, 0) - most) / 7 / most : 0;
  }
  return total / 2;
}

function hair(grey, w, h, side, depth) {
  const reach = (side - 1) / 2;
  let closed = grey;
  for (const best of [Math.max, Math.min]) {
    for (const [step, line, n, lines] of [[w, 1, h, w], [1, w, w, h]]) {
      const out = new Float64Array(w * h);
      for (let l = 0; l < lines; l++) {
        for (let i = 0; i < n; i++) {
          let found = closed[l * line + i * step];
          for (let j = Math.max(0, i - reach); j <= Math.min(n - 1, i + reach); j++) {
            found = best(found, closed[l * line + j * step]);
          }
          out[l * line + i * step] = found;
        }
      }
      closed = out;
    }
  }
  let dark = 0;
  for (let i = 0; i < w * h; i++) if (closed[i] - grey[i] > depth) dark++;
  return dark / (w * h);
}
