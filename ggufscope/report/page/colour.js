// From a share, or a change, to a colour: for squares, small pictures, words and scales alike.

const palette = {};
const scheme = matchMedia("(prefers-color-scheme: dark)");

function colour(name) {
  const text = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16));
}
const blend = (a, b, t) => a.map((x, i) => Math.round(x + (b[i] - x) * t));
const css = (rgb) => `rgb(${rgb.join(",")})`;
const GRADES = 512;

function readPalette() {
  const through = (stops) =>
    upTo(GRADES + 1).map((n) => {
      const t = (n / GRADES) * (stops.length - 1);
      const low = Math.min(Math.floor(t), stops.length - 2);
      return blend(stops[low], stops[low + 1], t - low);
    });
  palette.share = through(["--share-0", "--share-1", "--share-2"].map(colour));
  palette.more = through(["--same", "--more-1", "--more-2"].map(colour));
  palette.less = through(["--same", "--less-1", "--less-2"].map(colour));
  for (const name of ["ink", "soft", "ground", "surface", "line", "cursor", "none"]) palette[name] = colour(`--${name}`);
}

// Where a number from 0 to 1 stands on the scale, and back.
const onScale = (x) => (state.scale === "root" ? Math.sqrt(x) : x);
const offScale = (t) => (state.scale === "root" ? t * t : t);

function shareColour(x) {
  if (Number.isNaN(x)) return palette.none;
  return palette.share[Math.round(GRADES * onScale(Math.min(1, Math.max(0, x))))];
}
function changeColour(x, largest) {
  if (Number.isNaN(x)) return palette.none;
  const t = largest > 0 ? onScale(Math.min(1, Math.abs(x) / largest)) : 0;
  return (x < 0 ? palette.less : palette.more)[Math.round(GRADES * t)];
}
function dot(image, at, [red, green, blue]) {
  image.data[4 * at] = red;
  image.data[4 * at + 1] = green;
  image.data[4 * at + 2] = blue;
  image.data[4 * at + 3] = 255;
}
function inkOn(rgb) {
  const [r, g, b] = rgb.map((v) => (v / 255 <= 0.04045 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#000000" : "#ffffff";
}

// ---- scales ----

const TICKS = { root: [0, 0.01, 0.1, 0.25, 0.5, 1], linear: [0, 0.25, 0.5, 0.75, 1] };

// What a scale says: how far along each number stands, its words, and the colour of any point.
function scaleOf(kind, largest, finer) {
  if (kind !== "difference") {
    return {
      ticks: TICKS[state.scale].map((x) => [onScale(x), `${100 * x}`]),
      unit: "%",
      at: (t) => shareColour(offScale(t)),
    };
  }
  const decimals = data.decimals + finer;
  const end = (100 * largest).toFixed(decimals);
  const half = offScale(0.5) * largest;
  const middle = (100 * half).toFixed(decimals);
  return {
    ticks: [[0, `−${end}`], [0.25, `−${middle}`], [0.5, "0"], [0.75, `+${middle}`], [1, `+${end}`]],
    unit: "",
    at: (t) => changeColour(Math.sign(2 * t - 1) * offScale(Math.abs(2 * t - 1)) * largest, largest),
  };
}
function drawScale(box, scale) {
  const canvas = box.querySelector("canvas");
  canvas.width = GRADES;
  canvas.height = 1;
  const paint = canvas.getContext("2d");
  for (let i = 0; i < GRADES; i += 1) {
    paint.fillStyle = css(scale.at(i / (GRADES - 1)));
    paint.fillRect(i, 0, 1, 1);
  }
  const ticks = scale.ticks.map(([t, text], n) => {
    const tick = make("span", {}, n === scale.ticks.length - 1 ? `${text} ${scale.unit}`.trim() : text);
    tick.style.left = `${100 * t}%`;
    tick.style.translate = `${-100 * t}% 0`;
    return tick;
  });
  box.querySelector(".ticks").replaceChildren(...ticks);
}
