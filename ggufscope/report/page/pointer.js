// What follows the pointer, or the arrow keys: the chosen square, a lens over small ones, its numbers.

const LENS = 4; // squares to each side of the chosen one
let asked = null; // where the pointer is, until the next frame
let pointed = null; // where the note beside the pointer stands

for (const { canvas } of figures.values()) {
  canvas.addEventListener("keydown", moveCursor);
  for (const type of ["pointermove", "pointerdown"]) canvas.addEventListener(type, point);
  canvas.addEventListener("pointerleave", hideTip);
}
const STEP = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

function moveCursor(event) {
  const step = STEP[event.key];
  if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  hideTip();
  setCursor(state.row + step[0], state.column + step[1]);
}
function point(event) {
  if (!asked) requestAnimationFrame(follow);
  asked = { canvas: event.currentTarget, x: event.clientX, y: event.clientY, mouse: event.pointerType !== "touch" };
}
function follow() {
  if (!asked) return;
  const { canvas, x, y, mouse } = asked;
  asked = null;
  const { side, label } = geometry;
  const box = canvas.getBoundingClientRect();
  const row = Math.floor((y - box.top - label) / side);
  const column = Math.floor((x - box.left - label) / side);
  if (row < 0 || row >= rows || column < 0 || column > row + lead) {
    hideTip();
    return;
  }
  pointed = mouse ? { x, y } : null;
  setCursor(row, column);
}
function hideTip() {
  asked = null;
  pointed = null;
  $("tip").hidden = true;
}
function setCursor(row, column) {
  const before = state.row;
  state.row = clamp(row, rows);
  state.column = clamp(column, state.row + 1 + lead);
  drawPointer();
  showSentence();
  if (before !== state.row) rowChanged();
}

function drawPointer() {
  if (!view) return;
  for (const kind of kinds) drawOver(kind);
  tellCell();
}
function drawOver(kind) {
  const { over, canvas } = figures.get(kind);
  const { side, label, size } = geometry;
  const height = label + side * rows + 1;
  if (over.width !== canvas.width || over.height !== canvas.height || !over.style.width) prepare(over, size, height);
  const paint = over.getContext("2d");
  paint.clearRect(0, 0, size, height);
  const x = label + state.column * side;
  const y = label + state.row * side;
  paint.fillStyle = `${css(palette.cursor).slice(0, -1)}, 0.22)`.replace("rgb", "rgba");
  if (side < LABELLED) {
    // Where squares are small, two lines lead to the chosen one.
    paint.fillRect(label, y, x - label, Math.max(1, side));
    paint.fillRect(x, y + side, Math.max(1, side), label + rows * side - y - side);
    drawLens(paint, kind, size);
  } else {
    lit(paint, label);
  }
  paint.strokeStyle = css(palette.cursor);
  paint.lineWidth = 2;
  const edge = Math.max(side - 1, 3);
  paint.strokeRect(x - 0.5, y - 0.5, edge + 1, edge + 1);
}
// The two tokens by name, in the colour of the chosen square.
function lit(paint, label) {
  const { side } = geometry;
  const high = Math.max(side, labelSize() + 2);
  paint.fillStyle = css(palette.surface);
  paint.fillRect(0, label + (state.row + 0.5) * side - high / 2, label - 1, high);
  paint.fillRect(label + (state.column + 0.5) * side - high / 2, 0, high, label - 1);
  rowLabel(paint, state.row, palette.cursor);
  columnLabel(paint, state.column, palette.cursor);
}
// Squares around the chosen one, large, where no token sees another: in the upper right corner.
function drawLens(paint, kind, size) {
  const across = 2 * LENS + 1;
  const side = Math.floor((size * 0.46) / across);
  const left = size - side * across - 1;
  const colourAt = colourOf(kind);
  paint.fillStyle = css(palette.surface);
  paint.fillRect(left, 1, side * across, side * across);
  // At the edges of the map it stays inside.
  const first = (n, end) => Math.max(0, Math.min(n - LENS, end - across));
  const [top, start] = [first(state.row, rows), first(state.column, columns)];
  for (let r = top; r < Math.min(rows, top + across); r += 1) {
    for (let c = start; c <= Math.min(r + lead, start + across - 1); c += 1) {
      paint.fillStyle = css(colourAt(place(r, c)));
      paint.fillRect(left + (c - start) * side, 1 + (r - top) * side, side - 1, side - 1);
    }
  }
  paint.lineWidth = 1;
  paint.strokeStyle = css(palette.line);
  paint.strokeRect(left - 0.5, 0.5, side * across, side * across);
  paint.lineWidth = 2;
  paint.strokeStyle = css(palette.cursor);
  paint.strokeRect(left + (state.column - start) * side - 1, (state.row - top) * side, side + 1, side + 1);
}

// ---- its numbers ----

function tellCell() {
  const i = place(state.row, state.column);
  const who = [make("code", {}, rowTitle(state.row)), " gives ", make("code", {}, columnTitle(state.column))];
  const numbers = [make("strong", {}, percent(view.reference[i]))];
  if (compared) {
    const name = (run) => make("span", { className: "run" }, `${data.runs[run].name} `);
    numbers.unshift(name(0));
    numbers.push(", ", name(state.run), make("strong", {}, percent(view.candidate[i])));
    numbers.push(": ", make("strong", {}, points(view.change[i], view.finer)), " points");
  }
  const copy = () => [...who, " ", ...numbers].map((part) => (part.cloneNode ? part.cloneNode(true) : part));
  $("readout").replaceChildren(...copy());
  const tip = $("tip");
  tip.hidden = !pointed;
  if (!pointed) return;
  tip.replaceChildren(make("div", {}, ...who), make("div", {}, ...numbers));
  const box = tip.getBoundingClientRect();
  const left = pointed.x + 16 + box.width > innerWidth ? pointed.x - box.width - 12 : pointed.x + 16;
  const top = pointed.y + 18 + box.height > innerHeight ? pointed.y - box.height - 12 : pointed.y + 18;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, top)}px`;
}
