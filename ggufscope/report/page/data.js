"use strict";
// What is in the page: tokens, layers, heads, and every share, unpacked layer by layer.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const compared = data.runs.length > 1;
const lead = data.first > 0 ? 1 : 0; // a first column for all tokens before those shown
const rows = data.tokens.length;
const columns = rows + lead;
const STEPS = 100 * 10 ** data.decimals; // steps from a share of 0 to one of 1
const NO_NUMBER = 65535;

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
const clamp = (x, end) => Math.max(0, Math.min(end - 1, x));
const upTo = (n) => [...Array(n).keys()];

// ---- names ----

const shown = (token) => token.replace(/[ ▁]/g, "·") || "(empty)";
const isEarlier = (c) => lead === 1 && c === 0;
const columnName = (c) => (isEarlier(c) ? "(earlier)" : shown(data.tokens[c - lead]));
const rowTitle = (r) => `${data.first + r} ${shown(data.tokens[r])}`;
const columnTitle = (c) => (isEarlier(c) ? "(earlier)" : rowTitle(c - lead));
const headName = (l, h) => `L${data.layers[l]}H${h}`;
const headTitle = (l, h) => `Layer ${data.layers[l]}, head ${h}`;
const kvHead = (l, h) => Math.floor(h / perGroup(l));
const perGroup = (l) => (data.groups[l] > 0 && data.heads[l] % data.groups[l] === 0 ? data.heads[l] / data.groups[l] : 1);

// ---- numbers: no more digits than are stored ----

const fixed = (x, decimals) => (Number.isNaN(x) ? "no number" : (100 * x).toFixed(decimals));
const percent = (x) => (Number.isNaN(x) ? "no number" : `${fixed(x, data.decimals)} %`);
function points(x, finer) {
  if (Number.isNaN(x)) return "no number";
  const text = fixed(Math.abs(x), data.decimals + finer);
  return `${Number(text) === 0 ? "±" : x < 0 ? "−" : "+"}${text}`;
}
const short = (x) => (x === null ? "–" : `${(100 * x).toFixed(Math.abs(x) < 0.0995 ? 1 : 0)}%`);

// ---- shares ----

// Rows one after the other, each up to the diagonal.
const place = (r, c) => (r * (r + 1)) / 2 + r * lead + c;
const cells = place(rows, 0);
const loaded = new Map();
const promised = new Map();

function bytesOf(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i += 1) bytes[i] = binary.charCodeAt(i);
  return bytes;
}
async function inflated(text) {
  const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Of the reference shares in steps; of a candidate the steps from there. Place by place, the heads
// side by side. A candidate's are stored in the order of the reference's shares.
async function unpack(run, layer) {
  const bytes = await inflated(data.runs[run].maps[layer]);
  const count = bytes.length / 2;
  if (run === 0) {
    const levels = new Uint16Array(count);
    for (let i = 0; i < count; i += 1) levels[i] = bytes[i] | (bytes[count + i] << 8);
    return levels;
  }
  const before = await load(0, layer);
  const next = new Uint32Array(NO_NUMBER + 2);
  for (let i = 0; i < count; i += 1) next[before[i] + 1] += 1;
  for (let v = 1; v < next.length; v += 1) next[v] += next[v - 1];
  const steps = new Int16Array(count);
  for (let i = 0; i < count; i += 1) {
    const at = next[before[i]];
    next[before[i]] += 1;
    const code = bytes[at] | (bytes[count + at] << 8);
    steps[i] = code === NO_NUMBER ? -32768 : code & 1 ? -((code + 1) >> 1) : code >> 1;
  }
  return steps;
}
function load(run, layer) {
  const key = `${run} ${layer}`;
  if (!promised.has(key)) {
    promised.set(key, unpack(run, layer).then((array) => (loaded.set(key, array), array)));
  }
  return promised.get(key);
}
const has = (run, layer) => loaded.has(`${run} ${layer}`);

// Shares of one head in the reference, or how far a candidate's are from them: (cells).
function sharesOf(layer, head) {
  const levels = loaded.get(`0 ${layer}`);
  const count = data.heads[layer];
  return Float64Array.from({ length: cells }, (_, i) => {
    const level = levels[i * count + head];
    return level === NO_NUMBER ? NaN : level / STEPS;
  });
}
function changesOf(run, layer, head) {
  const steps = loaded.get(`${run} ${layer}`);
  const count = data.heads[layer];
  const scale = STEPS * 10 ** data.runs[run].finer[layer][head];
  return Float64Array.from({ length: cells }, (_, i) => {
    const step = steps[i * count + head];
    return step === -32768 ? NaN : step / scale;
  });
}
