// The maps of one head. Squares are drawn once, for a head; what follows the pointer lies over them.

const MONO = 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace';
const kinds = compared ? ["reference", "candidate", "difference"] : ["reference"];
const LABELLED = 9; // pixels of a square from which on tokens are named beside the map
const figures = new Map();
let geometry = { side: 1, label: 0, size: 1 };

for (const kind of kinds) {
  const canvas = make("canvas", { id: `map-${kind}`, tabIndex: 0 });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-describedby", "readout");
  const over = make("canvas", { className: "over" });
  const ticks = make("span", { className: "ticks" });
  const scale = make("p", { className: "scale" }, make("canvas"), ticks);
  for (const hidden of [over, scale]) hidden.setAttribute("aria-hidden", "true");
  const name = make("figcaption", { id: `name-${kind}` });
  $("maps").append(make("figure", {}, name, make("div", { className: "stage" }, canvas, over), scale));
  figures.set(kind, { canvas, over, scale, name });
}
document.body.classList.toggle("single", !compared);

// What a map shows of a place: a share, or a change.
function valuesOf(kind) {
  if (kind === "difference") return view.change;
  if (kind === "candidate") return view.candidate;
  return looked();
}
function colourOf(kind) {
  const values = valuesOf(kind);
  return kind === "difference" ? (i) => changeColour(values[i], view.largest) : (i) => shareColour(values[i]);
}

// ---- sizes ----

const ruler = document.createElement("canvas").getContext("2d");
function labelWidth(room) {
  ruler.font = `13px ${MONO}`;
  const names = upTo(columns).map((c) => ruler.measureText(columnName(c)).width);
  return Math.min(room, Math.ceil(12 + Math.max(...names)));
}
// Squares are as large as width and height allow, and even where that costs little.
function measureMap(width, height) {
  const ratio = window.devicePixelRatio || 1;
  const room = Math.min(width, Math.max(height, 160));
  const label = labelWidth(Math.min(110, room * 0.3));
  const whole = (side) => {
    const down = Math.floor(side * ratio) / ratio;
    return down > 0.92 * side ? down : side;
  };
  let side = whole((room - label - 2) / columns);
  if (side >= LABELLED) return { side: Math.min(side, 72), label, size: label + Math.min(side, 72) * columns + 1 };
  side = whole((room - 2) / columns);
  return { side, label: 0, size: side * columns + 1 };
}

function prepare(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const paint = canvas.getContext("2d");
  paint.scale(ratio, ratio);
  return paint;
}

// ---- squares ----

function drawMaps() {
  for (const kind of kinds) drawMap(kind);
  drawPointer();
}
const picture = document.createElement("canvas");
function drawMap(kind) {
  const { canvas, scale, name } = figures.get(kind);
  const { side, label, size } = geometry;
  const height = label + side * rows + 1;
  const paint = prepare(canvas, size, height);
  picture.width = columns;
  picture.height = rows;
  const brush = picture.getContext("2d");
  const image = brush.createImageData(columns, rows);
  const colourAt = colourOf(kind);
  for (let r = 0, i = 0; r < rows; r += 1) {
    for (let c = 0; c <= r + lead; c += 1, i += 1) {
      dot(image, r * columns + c, colourAt(i));
    }
  }
  brush.putImageData(image, 0, 0);
  paint.imageSmoothingEnabled = side * (window.devicePixelRatio || 1) < 1;
  paint.drawImage(picture, label, label, side * columns, side * rows);
  if (side > 8) {
    for (let n = 1; n <= columns; n += 1) {
      paint.clearRect(label + n * side - 1, label, 1, side * rows);
      if (n <= rows) paint.clearRect(label, label + n * side - 1, side * columns, 1);
    }
  }
  if (label) drawLabels(paint);
  scale.style.width = `${size}px`;
  name.textContent = mapTitle(kind);
  const about = "what each token (row) attends to (column). Arrow keys move; the table below has the same numbers.";
  canvas.setAttribute("aria-label", `${mapTitle(kind)}, ${headTitle(state.layer, state.head)}: ${about}`);
  drawScale(scale, scaleOf(kind, view.largest, view.finer));
}
function mapTitle(kind) {
  const candidate = data.runs[state.run].name;
  if (kind === "difference") return `${candidate} minus ${data.runs[0].name}, in points`;
  return kind === "candidate" || state.flipped ? candidate : data.runs[0].name;
}

const labelSize = () => Math.max(9, Math.min(13, geometry.side * 0.8));
function drawLabels(paint) {
  const { side, label } = geometry;
  const step = Math.max(1, Math.ceil((labelSize() + 1) / side));
  for (let n = 0; n < rows; n += step) rowLabel(paint, n, palette.ink, label);
  for (let n = 0; n < columns; n += step) columnLabel(paint, n, palette.ink, label);
}
function rowLabel(paint, r, ink) {
  const { side, label } = geometry;
  write(paint, shown(data.tokens[r]), label - 5, label + (r + 0.5) * side, "right", ink);
}
function columnLabel(paint, c, ink) {
  const { side, label } = geometry;
  paint.save();
  paint.translate(label + (c + 0.5) * side, label - 5);
  paint.rotate(-Math.PI / 2);
  write(paint, columnName(c), 0, 0, "left", ink);
  paint.restore();
}
// A leading space is a mark that does not shout.
function write(paint, text, x, y, align, ink) {
  paint.font = `${labelSize()}px ${MONO}`;
  paint.textBaseline = "middle";
  paint.textAlign = "left";
  const said = fitted(paint, text, geometry.label - 6);
  const mark = said.startsWith("·") && said.length > 1 ? "·" : "";
  let left = align === "right" ? x - paint.measureText(said).width : x;
  if (mark) {
    paint.fillStyle = css(blend(palette.surface, ink, 0.4));
    paint.fillText(mark, left, y);
    left += paint.measureText(mark).width;
  }
  paint.fillStyle = css(ink);
  paint.fillText(said.slice(mark.length), left, y);
}
function fitted(paint, text, width) {
  if (paint.measureText(text).width <= width) return text;
  let letters = [...text];
  while (letters.length && paint.measureText(`${letters.join("")}…`).width > width) letters = letters.slice(0, -1);
  return `${letters.join("")}…`;
}
