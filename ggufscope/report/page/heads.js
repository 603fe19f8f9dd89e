// Every head as a small picture: one canvas, and over it a button a head.

const tiles = new Map(); // "layer head" -> where it stands
const GROUP_GAP = 5; // between heads that do not share keys and values
let tileSize = 12;

const fillScores = () => {
  fill($("score"), scores().map((score) => score.name));
  $("score").value = state.score;
};
function fillPictures() {
  const options = compared
    ? [["change", "changes"], ["reference", data.runs[0].name], ["candidate", data.runs[state.run].name]]
    : [["reference", "its map"]];
  options.push(["token", "one token"], ["numbers", "numbers"]);
  fill($("picture"), options.map(([, words]) => words), options.map(([value]) => value));
  $("picture").value = state.picture;
}

function headOrder() {
  const all = data.layers.flatMap((_, l) => upTo(data.heads[l]).map((h) => [l, h]));
  const values = scores()[state.score]?.values;
  if (!state.sorted || !values) return all;
  const of = ([l, h]) => values[l][h] ?? -Infinity;
  return all.sort((a, b) => of(b) - of(a));
}
function scoreText(score, x) {
  if (x === null) return "–";
  if (score.percent) return short(x);
  return Math.abs(x) >= 100 ? x.toFixed(0) : x.toPrecision(2).replace(/e([+-])(\d)$/, "e$1$2");
}

// ---- where they stand ----

function layHeads(room, height) {
  const most = Math.max(...data.heads);
  const gaps = Math.max(...data.layers.map((_, l) => (perGroup(l) > 1 ? data.heads[l] / perGroup(l) - 1 : 0)));
  const [side, top] = [34, 16];
  const order = headOrder();
  const lines = data.layers.length;
  const wide = Math.floor((room - side - gaps * GROUP_GAP) / most);
  tileSize = Math.max(8, Math.min(Math.max(40, innerWidth / 45), wide, Math.max(10, Math.floor((height - top) / lines))));
  tiles.clear();
  order.forEach(([l, h], n) => {
    const x = state.sorted ? side + (n % most) * tileSize : side + h * tileSize + GROUP_GAP * (perGroup(l) > 1 ? kvHead(l, h) : 0);
    const y = top + (state.sorted ? Math.floor(n / most) : l) * tileSize;
    tiles.set(`${l} ${h}`, { l, h, x, y });
  });
  const width = side + most * tileSize + gaps * GROUP_GAP;
  const grid = $("grid");
  grid.style.width = `${width}px`;
  grid.style.height = `${top + lines * tileSize}px`;
  buildHeads(side, top);
  return width;
}
function buildHeads(side, top) {
  const grid = $("grid");
  const focused = grid.contains(document.activeElement);
  const score = scores()[state.score];
  const put = (element, x, y, width) => {
    element.style.left = `${x}px`;
    element.style.top = `${y}px`;
    element.style.width = `${width}px`;
    element.style.height = `${tileSize}px`;
    return element;
  };
  const parts = [];
  if (!state.sorted) {
    const every = Math.max(1, Math.ceil(14 / tileSize));
    const across = Math.max(1, Math.ceil(18 / tileSize));
    data.layers.forEach((layer, l) => {
      if (l % every === 0) parts.push(put(make("span", { className: "of-layer" }, `L${layer}`), 0, top + l * tileSize, side - 5));
    });
    const widest = data.heads.indexOf(Math.max(...data.heads));
    const shared = perGroup(widest);
    // Where all layers do it alike, a frame around the heads of each group.
    if (shared > 1 && data.layers.every((_, l) => perGroup(l) === shared)) {
      for (let h = 0; h < data.heads[widest]; h += shared) {
        const frame = put(make("span", { className: "of-group" }), tiles.get(`${widest} ${h}`).x - 2, top - 2, shared * tileSize + 3);
        frame.style.height = `${data.layers.length * tileSize + 3}px`;
        parts.push(frame);
      }
    }
    for (let h = 0; h < data.heads[widest]; h += across) {
      const label = make("span", { className: "of-head" }, h === 0 ? "H0" : String(h));
      parts.push(put(label, tiles.get(`${widest} ${h}`).x, 0, tileSize));
    }
  }
  for (const { l, h, x, y } of tiles.values()) {
    const button = put(make("button", { type: "button" }), x, y, tileSize);
    button.dataset.layer = l;
    button.dataset.head = h;
    const shared = perGroup(l) > 1 ? `, shares KV head ${kvHead(l, h)}` : "";
    const said = score ? `: ${score.name} ${scoreText(score, score.values[l][h])}` : "";
    const title = `layer ${data.layers[l]}, head ${h}${said}`;
    button.setAttribute("aria-label", title);
    button.title = `${title}${shared}`;
    if (state.picture === "numbers" && tileSize >= 30 && score) {
      button.textContent = scoreText(score, score.values[l][h]).replace("%", "");
      button.style.color = inkOn(scoreColour(l, h));
    }
    parts.push(button);
  }
  grid.replaceChildren($("tiles"), ...parts);
  markHead();
  if (focused) headButton().focus();
  $("score-caption").textContent = score ? (score.percent ? `${score.caption}, in percent` : score.caption) : "";
}
const headButton = (l = state.layer, h = state.head) => $("grid").querySelector(`[data-layer="${l}"][data-head="${h}"]`);
function markHead() {
  $("grid").querySelectorAll('button[aria-pressed="true"], button:not([aria-pressed])').forEach((button) => {
    button.setAttribute("aria-pressed", "false");
    button.tabIndex = -1;
  });
  headButton().setAttribute("aria-pressed", "true");
  headButton().tabIndex = 0;
}

// ---- their pictures ----

let drawing = 0;
async function drawHeads() {
  drawing += 1;
  const mine = drawing;
  const grid = $("grid");
  prepare($("tiles"), grid.offsetWidth, grid.offsetHeight);
  const run = state.picture === "change" || state.picture === "candidate" || (state.picture === "token" && state.flipped) ? state.run : 0;
  const largest = Math.max(...data.runs[run].largest.flat().map((x) => x || 0));
  // First the layer that is looked at, then the others as they are unpacked.
  const near = [...data.layers.keys()].sort((a, b) => (a === state.layer ? -1 : 0) - (b === state.layer ? -1 : 0));
  let since = performance.now();
  for (const l of near) {
    if (state.picture !== "numbers") {
      await Promise.all([state.picture === "change" ? null : load(0, l), run ? load(run, l) : null]);
      if (performance.now() - since > 12) {
        await new Promise((go) => setTimeout(go));
        since = performance.now();
      }
    }
    if (mine !== drawing) return; // something else is to be drawn meanwhile
    for (let h = 0; h < data.heads[l]; h += 1) drawTile(l, h, run, largest);
  }
  grid.dataset.drawn = state.picture;
}
function drawTile(l, h, run, largest) {
  const { x, y } = tiles.get(`${l} ${h}`);
  const ratio = window.devicePixelRatio || 1;
  const n = Math.max(1, Math.round(tileSize * ratio) - 1);
  const paint = $("tiles").getContext("2d");
  const image = paint.createImageData(n, n);
  if (state.picture === "numbers") {
    const whole = scoreColour(l, h);
    for (let i = 0; i < n * n; i += 1) dot(image, i, whole);
  } else {
    const values = pooled(l, h, run, n);
    const fillOf = state.picture === "change" ? (v) => changeColour(v, largest) : shareColour;
    for (let i = 0; i < n * n; i += 1) {
      const value = values[state.picture === "token" ? i % n : i];
      dot(image, i, value === null ? palette.ground : fillOf(value));
    }
  }
  paint.putImageData(image, Math.round(x * ratio), Math.round(y * ratio));
}
// A map, or the row of the chosen token, in n by n points: of several shares in one the largest.
function pooled(l, h, run, n) {
  const count = data.heads[l];
  const before = state.picture === "change" ? null : loaded.get(`0 ${l}`);
  const steps = run ? loaded.get(`${run} ${l}`) : null;
  const scale = run ? STEPS * 10 ** data.runs[run].finer[l][h] : STEPS;
  const of = (i) => (before ? before[i] / STEPS : 0) + (steps ? steps[i] / scale : 0);
  const row = state.picture === "token";
  const found = Array(row ? n : n * n).fill(null);
  // Few rows take several points each, many share one.
  const spans = (at, of_) => [Math.floor((at * n) / of_), Math.max(Math.floor((at * n) / of_) + 1, Math.floor(((at + 1) * n) / of_))];
  const first = row ? state.row : 0;
  for (let r = first; r < (row ? first + 1 : rows); r += 1) {
    const [top, bottom] = row ? [0, 1] : spans(r, rows);
    for (let c = 0; c <= r + lead; c += 1) {
      const value = of(place(r, c) * count + h);
      const [left, right] = spans(c, columns);
      for (let b = top; b < bottom; b += 1) {
        for (let a = left; a < right; a += 1) {
          const at = b * n + a;
          if (found[at] === null || Math.abs(value) > Math.abs(found[at])) found[at] = value;
        }
      }
    }
  }
  return found;
}
const rangeOf = (score) => {
  const all = score.values.flat().filter((x) => x !== null);
  score.range ??= [Math.min(...all), Math.max(...all)];
  return score.range;
};
function scoreColour(l, h) {
  const score = scores()[state.score];
  const [low, high] = rangeOf(score);
  const x = score.values[l][h];
  return x === null ? palette.none : palette.share[Math.round(GRADES * (high > low ? (x - low) / (high - low) : 0))];
}

// ---- choosing one ----

$("grid").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) choose(Number(button.dataset.layer), Number(button.dataset.head));
});
$("grid").addEventListener("keydown", (event) => {
  const step = STEP[event.key];
  if (!step || !event.target.dataset.head) return;
  event.preventDefault();
  if (state.sorted) {
    stepHead(step[0] * Math.max(...data.heads) + step[1]);
  } else {
    const layer = clamp(state.layer + step[0], data.layers.length);
    choose(layer, clamp(state.head + step[1], data.heads[layer]));
  }
  headButton().focus();
});
