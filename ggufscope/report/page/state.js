// What is looked at, and its address: `#candidate=Q2_K&head=L1H4`.

const state = {
  run: compared ? 1 : 0,
  layer: 0,
  head: 0,
  row: rows - 1,
  column: 0,
  score: 0,
  picture: compared ? "change" : "reference",
  sorted: false,
  flipped: false, // the candidate stands where the reference does
  scale: "root",
  direction: "to",
};
// Of the head that is looked at: shares (cells) of both runs, and what changed.
let view = null;

// Of a candidate what changed, and what the heads of the reference do.
const scores = () => [...data.runs[state.run].scores, ...(compared ? data.runs[0].scores : [])];
const looked = () => (state.flipped ? view.candidate : view.reference);
const lookedRun = () => (state.flipped ? state.run : 0);

async function readView() {
  const { run, layer, head } = state;
  await Promise.all([load(0, layer), compared ? load(run, layer) : null]);
  if (run !== state.run || layer !== state.layer || head !== state.head) return false; // chosen anew meanwhile
  const reference = sharesOf(layer, head);
  if (!compared) {
    view = { reference };
    return true;
  }
  const change = changesOf(run, layer, head);
  const candidate = reference.map((x, i) => Math.min(1, Math.max(0, x + change[i])));
  view = {
    ...{ reference, candidate, change },
    largest: data.runs[run].largest[layer][head] || 0,
    finer: data.runs[run].finer[layer][head],
  };
  return true;
}

function choose(layer, head) {
  state.layer = clamp(layer, data.layers.length);
  state.head = clamp(head, data.heads[state.layer]);
  showHead();
}
function chooseRun(run) {
  const name = scores()[state.score]?.name;
  state.run = run;
  state.score = Math.max(0, scores().findIndex((score) => score.name === name));
  document.querySelectorAll('input[name="candidate"]').forEach((radio) => {
    radio.checked = Number(radio.value) === run;
  });
  fillScores();
  fillPictures();
}
// The next head in the order in which they stand.
function stepHead(by) {
  const order = headOrder();
  const at = order.findIndex(([l, h]) => l === state.layer && h === state.head);
  choose(...order[(at + by + order.length) % order.length]);
}
function fill(select, names, values = names.map((_, n) => n)) {
  select.replaceChildren(...names.map((name, n) => make("option", { value: values[n] }, String(name))));
}

// ---- the address ----

// A candidate's name; its number where another has the same name.
function runName(run) {
  const { name } = data.runs[run];
  return data.runs.filter((each) => each.name === name).length > 1 ? String(run) : name;
}
function address() {
  const parts = [`head=${headName(state.layer, state.head)}`];
  if (compared) parts.unshift(`candidate=${encodeURIComponent(runName(state.run))}`);
  return `#${parts.join("&")}`;
}
function writeAddress() {
  if (location.hash !== address()) history.replaceState(null, "", address());
}
// Returns whether the address named a head or a candidate that is there.
function readAddress() {
  const asked = new Map(location.hash.slice(1).split("&").map((part) => part.split("=")));
  let name = "";
  try {
    name = decodeURIComponent(asked.get("candidate") || "");
  } catch {
    return false;
  }
  const run = data.runs.findIndex((_, n) => n > 0 && runName(n) === name);
  const [, layer, head] = (asked.get("head") || "").match(/^L(\d+)H(\d+)$/) || [];
  const l = data.layers.indexOf(Number(layer));
  if (run > 0) chooseRun(run);
  if (l < 0 || Number(head) >= data.heads[l]) return run > 0;
  state.layer = l;
  state.head = Number(head);
  return true;
}
