// Sizes that fill the window, what a change of what is looked at draws anew, and the beginning.

const WIDE = 1000; // pixels from which on heads and maps stand side by side

// The bars, without what is empty under them.
const barsHeight = () => $("bars").lastElementChild.getBoundingClientRect().bottom - $("bars").getBoundingClientRect().top;

function layOut() {
  if (document.body.classList.contains("printing")) return; // sizes are those of paper
  const wide = innerWidth >= WIDE;
  const work = $("work");
  const gap = 16;
  // What is left of the window under title and verdicts; no less than maps can be read in.
  const above = work.getBoundingClientRect().top + scrollY;
  const height = Math.max(470, innerHeight - above - $("readout").offsetHeight - gap);
  document.body.classList.toggle("wide", wide);
  document.body.classList.toggle("tall", data.layers.length > 12); // heads take the height
  document.body.classList.toggle("brief", columns <= 48);
  const grid = $("grid");
  const frame = $("overview").offsetWidth - grid.parentElement.clientWidth + 34;
  const room = wide ? Math.round(Math.min(0.35 * innerWidth, 0.22 * innerWidth + 170)) - frame : $("overview").clientWidth - 24;
  const used = $("overview").offsetHeight - grid.offsetHeight + barsHeight() + 32;
  const left = layHeads(room, wide ? height - used : Infinity);
  work.style.setProperty("--left", `${Math.max(left, wide ? 330 : 0) + frame}px`);
  const rest = $("head").firstElementChild.offsetHeight + 24;
  const under = compared ? $("reading").offsetHeight + 8 : 0; // one map has the words at its side
  const figure = $("maps").firstElementChild;
  const frames = figure.offsetHeight - figure.querySelector(".stage").offsetHeight;
  geometry = measureMap(Math.floor(figure.clientWidth), wide ? height - rest - under - frames : Infinity);
}

async function showHead() {
  markHead();
  if (!(await readView())) return;
  $("head-title").textContent = headTitle(state.layer, state.head);
  fill($("number"), upTo(data.heads[state.layer]));
  $("layer").value = state.layer;
  $("number").value = state.head;
  state.column = clamp(state.column, state.row + 1 + lead);
  drawMaps();
  showSentence();
  drawTable();
  writeAddress();
}
async function showAll() {
  readPalette();
  drawNext();
  layOut();
  await showHead();
  layOut(); // once more: now the words have their height
  drawn = "";
  drawMaps();
  showSentence();
  await drawHeads();
}
function flip() {
  if (!compared) return;
  state.flipped = !state.flipped;
  $("flip").setAttribute("aria-pressed", String(state.flipped));
  drawMap("reference");
  drawPointer();
  showSentence();
  if (state.picture === "token") drawHeads();
}

function listen() {
  const on = (id, type, act) => $(id).addEventListener(type, act);
  on("layer", "change", (event) => choose(Number(event.target.value), state.head));
  on("number", "change", (event) => choose(state.layer, Number(event.target.value)));
  on("previous", "click", () => stepHead(-1));
  on("next", "click", () => stepHead(1));
  on("flip", "click", flip);
  on("score", "change", (event) => ((state.score = Number(event.target.value)), showAll()));
  on("picture", "change", (event) => ((state.picture = event.target.value), showAll()));
  on("sorted", "change", (event) => ((state.sorted = event.target.checked), showAll()));
  on("scale", "change", (event) => ((state.scale = event.target.value), showAll()));
  document.querySelectorAll('input[name="candidate"]').forEach((radio) => {
    radio.addEventListener("change", () => (chooseRun(Number(radio.value)), showAll()));
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, input[type=text]")) return;
    if (event.key === "t" || event.key === "T") flip();
    if (event.key === "[") stepHead(-1);
    if (event.key === "]") stepHead(1);
  });
  window.addEventListener("hashchange", () => readAddress() && showAll());
  let resized = 0;
  window.addEventListener("resize", () => {
    clearTimeout(resized);
    resized = setTimeout(showAll, 60);
  });
  scheme.addEventListener("change", showAll);
  document.querySelectorAll("details").forEach((each) => each.addEventListener("toggle", () => each.id === "how" && showAll()));
}

function start() {
  chooseRun(data.start ? data.start[0] : state.run);
  if (data.start) {
    state.layer = Math.max(0, data.layers.indexOf(data.start[1]));
    state.head = clamp(data.start[2], data.heads[state.layer]);
  } else if (scores().length) {
    const values = scores()[0].values.map((heads) => heads.map((x) => x ?? -Infinity));
    const highest = Math.max(...values.flat());
    state.layer = Math.max(0, values.findIndex((heads) => heads.includes(highest)));
    state.head = Math.max(0, values[state.layer].indexOf(highest));
  }
  readAddress();
  fill($("layer"), data.layers);
  $("flip").hidden = !compared;
  $("frames").hidden = data.layers.every((_, l) => perGroup(l) === 1);
  const shares = `Shares are kept as they are printed, in steps of ${10 ** -data.decimals} %`;
  $("exact").textContent = compared
    ? `${shares}, so they are off by at most ${0.5 * 10 ** -data.decimals} points. Differences are in percentage points; in a head where little changed they have more decimals than shares have, and each is off by at most one step of its last.`
    : `${shares}, so they are off by at most ${0.5 * 10 ** -data.decimals} points.`;
  listen();
  return showAll();
}
start();
