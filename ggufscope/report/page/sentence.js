// The prompt as text: shaded by what the chosen token attends to, or by what attends to it.

const words = [];
const ARCS = 6; // the strongest are drawn as arcs

for (const c of upTo(columns)) {
  const said = isEarlier(c) ? "(earlier)" : data.tokens[c - lead].replaceAll("▁", " ");
  const space = said.startsWith(" ") && said.length > 1 ? "·" : "";
  const word = make("span", { tabIndex: -1 }, make("i", { ariaHidden: "true" }, space), said.slice(space.length) || "·");
  word.setAttribute("role", "option");
  word.dataset.column = c;
  words.push(word);
}
$("sentence").append(...words);

// How much of its attention goes to each column, or comes from there: NaN where nothing can.
function wordShares(values) {
  if (state.direction === "to") {
    return upTo(columns).map((c) => (c <= state.row + lead ? values[place(state.row, c)] : NaN));
  }
  const column = state.row + lead;
  return upTo(columns).map((c) => (c >= column ? values[place(c - lead, column)] : NaN));
}

let drawn = "";
function showSentence() {
  if (!view) return;
  const key = [state.row, state.direction, state.flipped, state.run, state.layer, state.head, state.scale, scheme.matches].join();
  if (key === drawn) return;
  drawn = key;
  const shares = wordShares(looked());
  const chosen = state.row + lead;
  words.forEach((word, c) => {
    const there = !Number.isNaN(shares[c]);
    const fill_ = there ? shareColour(shares[c]) : null;
    word.style.background = fill_ ? css(fill_) : "";
    word.style.color = fill_ ? inkOn(fill_) : "";
    word.tabIndex = c === chosen ? 0 : -1;
    word.setAttribute("aria-selected", String(c === chosen));
    word.setAttribute("aria-label", `${columnTitle(c)}${there ? ` ${percent(shares[c])}` : ""}`);
    word.title = there ? `${columnTitle(c)}: ${percent(shares[c])}` : columnTitle(c);
  });
  const run = compared ? `${data.runs[lookedRun()].name}: ` : "";
  const token = make("code", {}, rowTitle(state.row));
  const title = state.direction === "to" ? [token, " attends to"] : [token, " is attended by"];
  $("sentence-title").replaceChildren(run, ...title);
  drawArcs(shares, chosen);
  drawRow(shares, state.direction === "to");
}

function drawArcs(shares, chosen) {
  const box = $("prompt").getBoundingClientRect();
  const paint = prepare($("arcs"), $("sentence").offsetWidth, $("sentence").scrollHeight);
  const centre = (c) => {
    const { left, top, width } = words[c].getBoundingClientRect();
    return [left - box.left + width / 2, top - box.top + $("prompt").scrollTop];
  };
  const strongest = upTo(columns)
    .filter((c) => c !== chosen && shares[c] >= 0.02)
    .sort((a, b) => shares[b] - shares[a])
    .slice(0, ARCS);
  const [x, y] = centre(chosen);
  paint.strokeStyle = css(palette.cursor);
  paint.lineCap = "round";
  for (const c of strongest) {
    const [to, below] = centre(c);
    const high = Math.min(y, below) - Math.min(18, 6 + Math.abs(to - x) / 12);
    paint.globalAlpha = 0.35 + 0.65 * shares[c];
    paint.lineWidth = 1 + 3 * shares[c];
    paint.beginPath();
    paint.moveTo(x, y);
    paint.bezierCurveTo(x, high, to, high, to, below);
    paint.stroke();
  }
}

// ---- a token's strongest, and what comes next ----

function bar(name, values, title = name) {
  const track = make("span", { className: "track", ariaHidden: "true" });
  for (const value of values) {
    const part = make("i");
    part.style.width = `${Math.min(100, 100 * (value || 0))}%`;
    track.append(part);
  }
  const text = values.map((x) => (x === null ? "–" : fixed(x, 1))).join(" → ");
  return make("li", { title }, make("code", {}, name), track, make("span", { className: "share" }, `${text} %`));
}
function drawRow(shares, to) {
  $("row-title").textContent = to ? "Where most goes" : "Where most comes from";
  const other = compared ? wordShares(view.candidate) : [];
  const own = compared ? wordShares(view.reference) : shares;
  const order = upTo(columns)
    .filter((c) => !Number.isNaN(own[c]))
    .sort((a, b) => Math.max(own[b], other[b] || 0) - Math.max(own[a], other[a] || 0))
    .slice(0, 5);
  $("row-bars").replaceChildren(...order.map((c) => bar(columnName(c), compared ? [own[c], other[c]] : [own[c]], columnTitle(c))));
}
function drawNext() {
  $("coming").hidden = data.next.length === 0;
  const runs = compared ? [0, state.run] : [0];
  $("next-bars").replaceChildren(
    ...[...data.next]
      .sort((a, b) => Math.max(...runs.map((n) => b[n + 1])) - Math.max(...runs.map((n) => a[n + 1])))
      .slice(0, 5)
      .map(([token, ...shares]) => bar(shown(token), runs.map((n) => shares[n])))
  );
}

// ---- choosing a token ----

function chooseWord(c) {
  if (c < lead || c >= columns) return;
  hideTip();
  const row = c - lead;
  setCursor(row, Math.min(state.column, row + lead));
}
const wordOf = (event) => event.target.closest("[data-column]");
$("sentence").addEventListener("click", (event) => {
  if (wordOf(event)) chooseWord(Number(wordOf(event).dataset.column));
});
$("sentence").addEventListener("pointerover", (event) => {
  if (wordOf(event) && event.pointerType === "mouse") chooseWord(Number(wordOf(event).dataset.column));
});
$("sentence").addEventListener("keydown", (event) => {
  const step = STEP[event.key];
  if (!step) return;
  event.preventDefault();
  chooseWord(clamp(state.row + step[0] + step[1], rows) + lead);
  words[state.row + lead].focus();
});
document.querySelectorAll('input[name="direction"]').forEach((radio) => {
  radio.addEventListener("change", () => {
    state.direction = radio.value;
    showSentence();
  });
});
// One token over all heads: its row in every small picture, once the pointer rests.
let resting = 0;
function rowChanged() {
  if (state.picture !== "token") return;
  clearTimeout(resting);
  resting = setTimeout(drawHeads, 80);
}
