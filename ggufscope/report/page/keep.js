// To keep: the maps as a picture, the matrix as numbers, the table behind the maps, paper.

const escaped = (text) => text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

// The maps of the head beside each other, with titles, tokens and scales, as SVG.
function mapsAsSvg() {
  const flipped = state.flipped;
  state.flipped = false; // kept is what stands there, not what is held over it
  try {
    return svgOf();
  } finally {
    state.flipped = flipped;
  }
}
function svgOf() {
  const side = Math.max(4, Math.min(28, Math.round(480 / columns)));
  const font = Math.min(12, Math.max(side * 0.8, 3));
  const label = Math.min(120, Math.ceil(Math.max(...upTo(columns).map((c) => columnName(c).length)) * font * 0.62) + 8);
  const size = label + side * columns;
  const high = label + side * rows;
  const gap = 28;
  const parts = [];
  const text = (x, y, said, more = "") =>
    parts.push(`<text x="${x}" y="${y}" fill="${css(palette.ink)}" ${more}>${escaped(said)}</text>`);
  text(16, 26, `${headTitle(state.layer, state.head)}: ${document.title}`, 'font-size="15" font-weight="600"');
  kinds.forEach((kind, n) => {
    const left = 16 + n * (size + gap);
    const top = 64;
    text(left, top - 12, mapTitle(kind), 'font-size="13" font-weight="600"');
    const colourAt = colourOf(kind);
    for (let r = 0, i = 0; r < rows; r += 1) {
      for (let c = 0; c <= r + lead; c += 1, i += 1) {
        const at = `x="${left + label + c * side}" y="${top + label + r * side}"`;
        parts.push(`<rect ${at} width="${side}" height="${side}" fill="${css(colourAt(i))}"/>`);
      }
    }
    const mono = `font-family="monospace" font-size="${font}"`;
    upTo(rows).forEach((r) => {
      const y = top + label + (r + 0.5) * side + font / 3;
      text(left + label - 4, y, shown(data.tokens[r]), `${mono} text-anchor="end"`);
    });
    upTo(columns).forEach((c) => {
      const x = left + label + (c + 0.5) * side + font / 3;
      text(x, top + label - 4, columnName(c), `${mono} transform="rotate(-90 ${x} ${top + label - 4})"`);
    });
    const scale = scaleOf(kind, view.largest, view.finer);
    const across = side * columns;
    for (let i = 0; i < 64; i += 1) {
      const at = `x="${left + label + (i * across) / 64}" y="${top + high + 12}"`;
      parts.push(`<rect ${at} width="${across / 64 + 0.5}" height="10" fill="${css(scale.at(i / 63))}"/>`);
    }
    scale.ticks.forEach(([t, said], k) => {
      if (across < 250 && [0.25, 0.75].includes(t)) return; // no room for these
      const anchor = t === 0 ? "start" : t === 1 ? "end" : "middle";
      const words_ = k === scale.ticks.length - 1 ? `${said} ${scale.unit}`.trim() : said;
      text(left + label + t * across, top + high + 36, words_, `font-size="11" text-anchor="${anchor}"`);
    });
  });
  const width = 16 + kinds.length * (size + gap);
  const height = 64 + high + 48;
  return {
    width,
    height,
    text:
      `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="sans-serif">` +
      `<rect width="100%" height="100%" fill="${css(palette.surface)}"/>${parts.join("")}</svg>`,
  };
}

function mapsAsCsv() {
  const quoted = (text) => `"${text.replaceAll('"', '""')}"`;
  const names = compared ? [data.runs[0].name, data.runs[state.run].name, "difference"] : ["share"];
  const lines = [["row", "token", "column", "attends to", ...names].map(quoted).join(",")];
  for (let r = 0, i = 0; r < rows; r += 1) {
    for (let c = 0; c <= r + lead; c += 1, i += 1) {
      const values = compared ? [view.reference[i], view.candidate[i], view.change[i]] : [view.reference[i]];
      const column = isEarlier(c) ? "" : data.first + c - lead;
      const to = isEarlier(c) ? "(earlier)" : data.tokens[c - lead];
      lines.push([data.first + r, quoted(data.tokens[r]), column, quoted(to), ...values.map((x) => +x.toFixed(10))].join(","));
    }
  }
  return `${lines.join("\r\n")}\r\n`;
}

function save(content, ending) {
  const url = URL.createObjectURL(content);
  const run = compared ? `${data.runs[state.run].name}-` : "";
  const name = `${run}${headName(state.layer, state.head)}.${ending}`.replace(/[^\w.-]+/g, "_");
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
$("keep-svg").addEventListener("click", () => save(new Blob([mapsAsSvg().text], { type: "image/svg+xml" }), "svg"));
$("keep-csv").addEventListener("click", () => save(new Blob([mapsAsCsv()], { type: "text/csv" }), "csv"));
$("keep-png").addEventListener("click", async () => {
  const { text, width, height } = mapsAsSvg();
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  const canvas = make("canvas", { width: 2 * width, height: 2 * height });
  canvas.getContext("2d").drawImage(image, 0, 0, 2 * width, 2 * height);
  canvas.toBlob((blob) => save(blob, "png"));
});

// ---- the table behind the maps ----

function drawTable() {
  if (!$("numbers").open || !view) return;
  const heading = upTo(columns).map((c) => make("th", { scope: "col" }, columnTitle(c)));
  const body = upTo(rows).map((r) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, rowTitle(r)),
      ...upTo(r + 1 + lead).map((c) => {
        const [x, y] = [view.reference, view.candidate].map((each) => each && fixed(each[place(r, c)], data.decimals));
        return make("td", {}, compared ? `${x} → ${y}` : x);
      })
    )
  );
  const runs = compared ? `: ${data.runs[0].name} → ${data.runs[state.run].name}` : "";
  $("numbers-table").replaceChildren(
    make(
      "table",
      {},
      make("caption", {}, `${headTitle(state.layer, state.head)}, in percent${runs}`),
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "row \\ column"), ...heading)),
      make("tbody", {}, ...body)
    )
  );
}
$("numbers").addEventListener("toggle", drawTable);
const PAPER = 680; // pixels across a sheet
window.addEventListener("beforeprint", () => {
  $("tables").open = true;
  document.body.classList.add("printing");
  geometry = measureMap(compared ? PAPER / 3 : PAPER * 0.8, Infinity);
  if (view) drawMaps();
});
window.addEventListener("afterprint", () => {
  document.body.classList.remove("printing");
  showAll();
});
