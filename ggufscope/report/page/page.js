"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const compared = data.runs.length > 1;
const lead = data.first > 0 ? 1 : 0; // a first column for all tokens before those shown
const rows = data.tokens.length;
const columns = rows + lead;
const state = { run: compared ? 1 : 0, layer: 0, head: 0, row: rows - 1, column: 0, score: 0 };
const unpacked = new Map();
const MONO = 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace';

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// ---- data ----

const columnName = (c) => (lead && c === 0 ? "(earlier)" : data.tokens[c - lead]);
const shown = (token) => token.replaceAll(" ", "▁") || "(empty)";
const named = (token, n) => `${n} ${shown(token)}`;
const rowTitle = (r) => named(data.tokens[r], data.first + r);
const columnTitle = (c) => (lead && c === 0 ? "(earlier)" : named(columnName(c), data.first + c - lead));
const place = (r, c) => (r * (r + 1)) / 2 + r * lead + c;
const headSize = place(rows, 0);

async function unpack(text) {
  const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const half = bytes.length / 2;
  return Uint16Array.from({ length: half }, (_, i) => bytes[i] | (bytes[half + i] << 8));
}

// Shares of all heads of a layer, of 65535. A candidate is stored as its distance to the reference.
async function shares(run, layer) {
  const key = `${run} ${layer}`;
  if (!unpacked.has(key)) {
    const levels = await unpack(data.runs[run].maps[layer]);
    if (run > 0) {
      const reference = await shares(0, layer);
      for (let i = 0; i < levels.length; i += 1) {
        levels[i] = reference[i] + ((levels[i] >> 1) ^ -(levels[i] & 1));
      }
    }
    unpacked.set(key, levels);
  }
  return unpacked.get(key);
}

const share = (levels, head, r, c) => levels[head * headSize + place(r, c)] / 65535;
const percent = (x) => `${(100 * x).toFixed(Math.abs(x) < 0.1 ? 2 : 1)} %`;
const points = (x) => `${x < 0 ? "−" : "+"}${(100 * Math.abs(x)).toFixed(2)} points`;

// ---- colours ----

function colour(name) {
  const text = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16));
}
const blend = (a, b, t) => a.map((x, i) => Math.round(x + (b[i] - x) * t));
const css = (rgb) => `rgb(${rgb.join(",")})`;

// Square roots: a share of 1 % is to be seen beside one of 100 %.
function shareColour(x) {
  const t = Math.sqrt(Math.min(1, Math.max(0, x)));
  return t < 0.5
    ? blend(colour("--share-0"), colour("--share-1"), 2 * t)
    : blend(colour("--share-1"), colour("--share-2"), 2 * t - 1);
}
function changeColour(x, largest) {
  const t = largest ? Math.sqrt(Math.min(1, Math.abs(x) / largest)) : 0;
  return blend(colour("--same"), colour(x < 0 ? "--less" : "--more"), t);
}
function inkOn(rgb) {
  const [r, g, b] = rgb.map((v) => (v / 255 <= 0.04045 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#000000" : "#ffffff";
}

// ---- every head ----

const scores = () => data.runs[state.run].scores;
function scoreText(score, x) {
  if (x === null) return "∞";
  if (score.percent) return percent(x).replace(" ", "");
  return Math.abs(x) >= 100 ? x.toFixed(0) : x.toPrecision(2).replace(/e([+-])(\d)$/, "e$1$2");
}

function drawGrid() {
  const score = scores()[state.score];
  $("overview").hidden = !score;
  if (!score) return;
  $("score-caption").textContent = score.percent ? `${score.caption}, in percent` : score.caption;
  const all = score.values.flat().filter((x) => x !== null);
  const low = Math.min(...all);
  const high = Math.max(...all);
  const most = Math.max(...data.heads);
  const heading = [...Array(most).keys()].map((h) => make("th", { scope: "col" }, String(h)));
  const body = data.layers.map((layer, l) => {
    const cells = score.values[l].map((x, h) => {
      const chosen = l === state.layer && h === state.head;
      const text = scoreText(score, x);
      const button = make("button", { type: "button", tabIndex: chosen ? 0 : -1 }, text.replace("%", ""));
      const level = x === null ? 1 : high > low ? (x - low) / (high - low) : 0;
      const fill = shareColour(level * level); // its square root is taken there
      button.style.background = css(fill);
      button.style.color = inkOn(fill);
      button.dataset.layer = l;
      button.dataset.head = h;
      button.setAttribute("aria-pressed", String(chosen));
      button.setAttribute("aria-label", `layer ${layer}, head ${h}: ${score.name} ${text}`);
      button.title = `layer ${layer}, head ${h}: ${text}`;
      return make("td", {}, button);
    });
    return make("tr", {}, make("th", { scope: "row" }, `layer ${layer}`), ...cells);
  });
  const table = make(
    "table",
    { className: most > 16 ? "many" : "" },
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "head"), ...heading)),
    make("tbody", {}, ...body)
  );
  const focused = $("grid").contains(document.activeElement);
  $("grid").replaceChildren(table);
  if (focused) gridButton(state.layer, state.head).focus();
}
const gridButton = (l, h) => $("grid").querySelector(`[data-layer="${l}"][data-head="${h}"]`);

$("grid").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) choose(Number(button.dataset.layer), Number(button.dataset.head));
});
$("grid").addEventListener("keydown", (event) => {
  const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  if (!step) return;
  event.preventDefault();
  const layer = clamp(state.layer + step[0], data.layers.length);
  choose(layer, clamp(state.head + step[1], data.heads[layer]));
});
const clamp = (x, end) => Math.max(0, Math.min(end - 1, x));

// ---- one head ----

const kinds = compared ? ["reference", "candidate", "difference"] : ["reference"];
$("maps").classList.toggle("single", !compared);
$("maps").style.setProperty("--room", `${110 + 10 * columns}px`); // squares of ten pixels, if there is room
for (const kind of kinds) {
  const canvas = make("canvas", { id: `map-${kind}`, tabIndex: 0 });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-describedby", "readout");
  const scale = make("p", { className: "scale" });
  $("maps").append(make("figure", {}, make("figcaption", { id: `name-${kind}` }), canvas, scale));
  canvas.addEventListener("keydown", moveCursor);
  for (const type of ["pointermove", "pointerdown"]) canvas.addEventListener(type, point);
}

// As wide as the longest token, as far as there is room.
const measure = document.createElement("canvas").getContext("2d");
function labelWidth(room) {
  measure.font = `13px ${MONO}`;
  const names = [...data.tokens.map(shown), ...(lead ? [columnName(0)] : [])];
  return Math.min(room, 12 + Math.max(...names.map((name) => measure.measureText(name).width)));
}

function metrics(canvas) {
  const width = canvas.clientWidth || 300;
  const label = labelWidth(Math.min(110, width * 0.26));
  const side = (width - label - 1) / columns;
  return { width, label, side, height: label + side * rows + 1 };
}

function drawMap(kind, levels, other) {
  const canvas = $(`map-${kind}`);
  const { width, label, side, height } = metrics(canvas);
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = `${height}px`;
  const paint = canvas.getContext("2d");
  paint.scale(ratio, ratio);
  const largest = kind === "difference" ? largestChange(levels, other) : 0;
  const gap = side > 8 ? 1 : 0;
  for (let r = 0; r < rows; r += 1) {
    for (let c = 0; c <= r + lead; c += 1) {
      const x = share(levels, state.head, r, c);
      const fill =
        kind === "difference" ? changeColour(share(other, state.head, r, c) - x, largest) : shareColour(x);
      paint.fillStyle = css(fill);
      paint.fillRect(label + c * side, label + r * side, side - gap, side - gap);
    }
  }
  drawLabels(paint, label, side);
  paint.strokeStyle = css(colour("--cursor"));
  paint.lineWidth = 2;
  paint.strokeRect(label + state.column * side, label + state.row * side, Math.max(side - gap, 3), Math.max(side - gap, 3));
  const scale = canvas.nextElementSibling;
  scale.replaceChildren(
    ...(kind === "difference"
      ? [`−${percent(largest)}`, make("i", { className: "change" }), `+${percent(largest)}`]
      : ["0 %", make("i", { className: "share" }), "100 %"])
  );
}

function drawLabels(paint, label, side) {
  const size = Math.max(9, Math.min(13, side * 0.8));
  const step = Math.max(1, Math.ceil((size + 1) / side));
  paint.font = `${size}px ${MONO}`;
  paint.textBaseline = "middle";
  const ink = css(colour("--ink"));
  const bright = css(colour("--cursor"));
  const near = (n, chosen) => n % step === 0 && (n === chosen || Math.abs(n - chosen) >= step);
  for (let n = 0; n < rows; n += 1) {
    if (n !== state.row && !near(n, state.row)) continue;
    paint.fillStyle = n === state.row ? bright : ink;
    paint.textAlign = "right";
    paint.fillText(fitted(paint, shown(data.tokens[n]), label - 6), label - 5, label + (n + 0.5) * side);
  }
  for (let n = 0; n < columns; n += 1) {
    if (n !== state.column && !near(n, state.column)) continue;
    paint.save();
    paint.translate(label + (n + 0.5) * side, label - 5);
    paint.rotate(-Math.PI / 2);
    paint.textAlign = "left";
    paint.fillStyle = n === state.column ? bright : ink;
    paint.fillText(fitted(paint, shown(columnName(n)), label - 6), 0, 0);
    paint.restore();
  }
}

function fitted(paint, text, width) {
  if (paint.measureText(text).width <= width) return text;
  let letters = [...text];
  while (letters.length && paint.measureText(`${letters.join("")}…`).width > width) letters = letters.slice(0, -1);
  return `${letters.join("")}…`;
}

function largestChange(levels, other) {
  let largest = 0;
  const start = state.head * headSize;
  for (let i = start; i < start + headSize; i += 1) largest = Math.max(largest, Math.abs(levels[i] - other[i]));
  return largest / 65535;
}

function moveCursor(event) {
  const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  if (!step) return;
  event.preventDefault();
  setCursor(state.row + step[0], state.column + step[1]);
}
function point(event) {
  const { label, side } = metrics(event.currentTarget);
  const box = event.currentTarget.getBoundingClientRect();
  const row = Math.floor((event.clientY - box.top - label) / side);
  const column = Math.floor((event.clientX - box.left - label) / side);
  if (row >= 0 && row < rows && column >= 0 && column <= row + lead) setCursor(row, column);
}
function setCursor(row, column) {
  state.row = clamp(row, rows);
  state.column = clamp(column, state.row + 1 + lead);
  drawHead();
}

async function drawHead() {
  const { layer, head, run } = state;
  const reference = await shares(0, layer);
  const candidate = compared ? await shares(run, layer) : null;
  if (layer !== state.layer || head !== state.head || run !== state.run) return; // chosen anew meanwhile
  const where = `layer ${data.layers[layer]}, head ${head}`;
  $("head-title").textContent = where[0].toUpperCase() + where.slice(1);
  const titles = {
    reference: data.runs[0].name,
    candidate: data.runs[run].name,
    difference: `${data.runs[run].name} minus ${data.runs[0].name}`,
  };
  for (const kind of kinds) {
    $(`name-${kind}`).textContent = titles[kind];
    const about = "what each token (row) attends to (column). Arrow keys move; the same numbers are in the table below.";
    $(`map-${kind}`).setAttribute("aria-label", `${titles[kind]}, ${where}: ${about}`);
    drawMap(kind, kind === "candidate" ? candidate : reference, candidate);
  }
  tellCell(reference, candidate);
  drawRow(reference, candidate);
  if ($("numbers").open) drawTable(reference, candidate);
}

function tellCell(reference, candidate) {
  const x = share(reference, state.head, state.row, state.column);
  const parts = [
    make("code", {}, rowTitle(state.row)),
    " gives ",
    make("code", {}, columnTitle(state.column)),
    compared ? ` ${data.runs[0].name} ` : " ",
    make("strong", {}, percent(x)),
  ];
  if (compared) {
    const y = share(candidate, state.head, state.row, state.column);
    parts.push(`, ${data.runs[state.run].name} `, make("strong", {}, percent(y)), `: ${points(y - x)}`);
  }
  $("readout").replaceChildren(...parts);
}

function drawRow(reference, candidate) {
  $("row-title").replaceChildren("What ", make("code", {}, rowTitle(state.row)), " attends to most");
  const order = [...Array(state.row + 1 + lead).keys()]
    .map((c) => ({ c, x: share(reference, state.head, state.row, c), y: candidate ? share(candidate, state.head, state.row, c) : 0 }))
    .sort((a, b) => Math.max(b.x, b.y) - Math.max(a.x, a.y))
    .slice(0, 6);
  $("row-bars").replaceChildren(
    ...order.map(({ c, x, y }) => {
      const track = make("span", { className: "track" });
      for (const value of compared ? [x, y] : [x]) {
        const bar = make("i");
        bar.style.width = `${100 * value}%`;
        track.append(bar);
      }
      track.setAttribute("aria-hidden", "true");
      const text = compared ? `${percent(x)} → ${percent(y)}` : percent(x);
      return make("li", {}, make("code", {}, columnTitle(c)), track, make("span", { className: "share" }, text));
    })
  );
}

function drawTable(reference, candidate) {
  const heading = [...Array(columns).keys()].map((c) => make("th", { scope: "col" }, columnTitle(c)));
  const body = [...Array(rows).keys()].map((r) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, rowTitle(r)),
      ...[...Array(r + 1 + lead).keys()].map((c) => {
        const x = share(reference, state.head, r, c);
        const y = candidate ? share(candidate, state.head, r, c) : 0;
        return make("td", {}, candidate ? `${(100 * x).toFixed(2)} → ${(100 * y).toFixed(2)}` : (100 * x).toFixed(2));
      })
    )
  );
  const caption = compared
    ? `In percent: ${data.runs[0].name} → ${data.runs[state.run].name}`
    : "In percent";
  $("numbers-table").replaceChildren(
    make(
      "table",
      {},
      make("caption", {}, caption),
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "row \\ column"), ...heading)),
      make("tbody", {}, ...body)
    )
  );
}

// ---- choosing ----

function fill(select, names) {
  select.replaceChildren(...names.map((name, value) => make("option", { value }, String(name))));
}
function choose(layer, head) {
  state.layer = layer;
  state.head = clamp(head, data.heads[layer]);
  draw();
}
function draw() {
  fill($("number"), [...Array(data.heads[state.layer]).keys()]);
  $("layer").value = state.layer;
  $("number").value = state.head;
  drawGrid();
  drawHead();
}
function step(by) {
  let layer = state.layer;
  let head = state.head + by;
  if (head < 0) {
    layer = (layer + data.layers.length - 1) % data.layers.length;
    head = data.heads[layer] - 1;
  } else if (head >= data.heads[layer]) {
    layer = (layer + 1) % data.layers.length;
    head = 0;
  }
  choose(layer, head);
}
function chooseRun(run) {
  const name = scores()[state.score]?.name;
  state.run = run;
  state.score = Math.max(0, scores().findIndex((score) => score.name === name));
  fill($("score"), scores().map((score) => score.name));
  $("score").value = state.score;
}
function open() {
  let [run, layer, head] = data.start || [state.run, -1, 0];
  chooseRun(run);
  document.querySelectorAll('input[name="candidate"]').forEach((radio) => {
    radio.checked = Number(radio.value) === run;
    radio.addEventListener("change", () => {
      chooseRun(Number(radio.value));
      draw();
    });
  });
  if (layer < 0) {
    const values = scores()[0]?.values || [[0]];
    const highest = Math.max(...values.flat());
    layer = Math.max(0, values.findIndex((heads) => heads.includes(highest)));
    head = Math.max(0, values[layer].indexOf(highest));
  } else {
    layer = data.layers.indexOf(layer);
  }
  fill($("layer"), data.layers);
  $("layer").addEventListener("change", (event) => choose(Number(event.target.value), state.head));
  $("number").addEventListener("change", (event) => choose(state.layer, Number(event.target.value)));
  $("score").addEventListener("change", (event) => {
    state.score = Number(event.target.value);
    drawGrid();
  });
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("numbers").addEventListener("toggle", drawHead);
  window.addEventListener("resize", drawHead);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  choose(layer, head);
}
open();
