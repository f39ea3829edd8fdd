// The gallery: images as columns, explainers as rows; one alpha at a time, or each in its own row.

const tiles = { chunks: [], unpacked: new Map() };

/** The bytes of tile `number` and their shape; a chunk is unpacked when its first tile is asked for. */
async function tile(number) {
  const chunk = tiles.chunks.findLast((each) => each.start <= number);
  if (!tiles.unpacked.has(chunk)) {
    const packed = Uint8Array.from(atob(chunk.element.textContent), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    tiles.unpacked.set(chunk, new Response(stream).arrayBuffer());
  }
  const { height, width, channels } = chunk;
  const size = height * width * channels;
  const bytes = new Uint8Array(await tiles.unpacked.get(chunk), (number - chunk.start) * size, size);
  return { bytes, height, width, channels };
}

const mix = (stops) => {
  const colours = stops.map((hex) => [1, 3, 5].map((place) => parseInt(hex.slice(place, place + 2), 16)));
  return Array.from({ length: 256 }, (_, value) => {
    const place = (value / 255) * (stops.length - 1), below = Math.min(Math.floor(place), stops.length - 2);
    return colours[below].map((part, i) => part + (colours[below + 1][i] - part) * (place - below));
  });
};
const GRAY = mix(["#000000", "#ffffff"]);
const VIRIDIS = mix(["#440154", "#482475", "#414487", "#355f8d", "#2a788e", "#21918c", "#22a884", "#44bf70", "#7ad151", "#bddf26", "#fde725"]);
const RED_BLUE = mix(["#053061", "#2166ac", "#4393c3", "#92c5de", "#d1e5f0", "#f7f7f7", "#fddbc7", "#f4a582", "#d6604d", "#b2182b", "#67001f"]);
const PALETTES = { image: GRAY, mask: GRAY, map: VIRIDIS, heatmap: RED_BLUE, difference: RED_BLUE };

async function paint(canvas, number, kind) {
  const { bytes, height, width, channels } = await tile(number);
  Object.assign(canvas, { height, width });
  const picture = new ImageData(width, height), palette = PALETTES[kind];
  for (let pixel = 0; pixel < height * width; pixel++) {
    const colour = channels === 3 ? bytes.subarray(3 * pixel, 3 * pixel + 3) : palette[bytes[pixel]];
    picture.data.set([colour[0], colour[1], colour[2], 255], 4 * pixel);
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

/** What a pixel of a cell says, in words. */
async function valueAt(cell, down, right) {
  const { bytes, height, width, channels } = await tile(cell.tile);
  const row = Math.min(height - 1, Math.floor(down * height)), column = Math.min(width - 1, Math.floor(right * width));
  const place = (row * width + column) * channels;
  const own = [...bytes.subarray(place, place + channels)];
  const signed = cell.kind === "heatmap" || cell.kind === "difference";
  const values = own.map((byte) => (signed ? ((byte - 128) / 127) * (cell.scale ?? 1) : byte / 255));
  return `row ${row}, column ${column}: ${values.map(said).join(" ")}`;
}

/** Whether an image is not known to be misclassified; those from elsewhere have no label. */
const right = (image) => image.label === null || image.label === image.predicted;
const named = (image) => (right(image) ? image.predicted : `${image.label} → ${image.predicted}`);

/** A name that may break also after a sign, as in T-shirt/top, before it breaks inside a word. */
const breakable = (name) => name.split(/(?<=[/_.,:-])/).flatMap((part, place) => (place ? [make("wbr"), part] : [part]));

function startGallery(networks) {
  if (!networks.length) return;
  const form = $("#gallery-controls"), grid = $("#gallery-grid"), dialog = $("#enlarged");
  const { net, class: truth, seen, right: wanted, layer, alpha, all } = form.elements;
  const fieldset = $("fieldset", form), drawn = new IntersectionObserver(draw, { rootMargin: "300px" });
  let network = null, alphas = [], hidden = new Set(), columns = [], rows = [], at = [0, 0];

  fill(net, networks.map((each) => [each.id, each.label]));

  function take(choices) {
    choose(networks.find((each) => each.id === choices.get("net")) ?? networks[0]);
    truth.value = choices.get("class") ?? "";
    seen.value = choices.get("seen") ?? "";
    wanted.value = choices.get("right") ?? "";
    layer.value = choices.get("layer") ?? "";
    for (const select of [truth, seen, wanted, layer]) if (select.selectedIndex < 0) select.value = "";
    const place = alphas.indexOf(Number(choices.get("alpha") ?? NaN));
    alpha.value = place < 0 ? 0 : place;
    all.checked = choices.get("all") === "1" && alphas.length > 1;
    hidden = new Set(choices.getAll("hide").filter((name) => network.rows.some((row) => row.name === name)));
    for (const box of $$("input", fieldset)) box.checked = !hidden.has(box.value);
    refresh(false);
    const [, image, row] = /^(.*):(\w*)$/s.exec(choices.get("open") ?? "") ?? []; // a file's name may have a colon
    const found = [shown().findIndex((each) => numbered(each) === row), columns.findIndex((each) => String(each.index) === image)];
    if (found.every((place) => place >= 0)) enlarge(...found);
    else if (dialog.open) dialog.close();
  }

  function choose(chosen) {
    if (network === chosen) return;
    network = chosen;
    net.value = network.id;
    const sorted = (values) => [...new Set(values)].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    fill(truth, [["", "any"], ...sorted(network.images.map((each) => each.label).filter((label) => label !== null)).map((name) => [name, name])]);
    fill(seen, [["", "any"], ...sorted(network.images.map((each) => each.predicted)).map((name) => [name, name])]);
    const layers = [...new Set(network.rows.map((row) => row.layer).filter((name) => name !== null))];
    fill(layer, [["", layers.length ? "all" : "–"], ...layers.map((name) => [name, name])]);
    alphas = [...new Set(network.rows.map((row) => row.alpha).filter((value) => value !== null))].sort((a, b) => a - b);
    alpha.max = Math.max(0, alphas.length - 1);
    alpha.disabled = all.disabled = alphas.length < 2;
    const names = new Map(network.rows.map((row) => [row.name, row.title.replace(/ \(.*\)$/, "")]));
    $$("label", fieldset).forEach((label) => label.remove());
    for (const [name, title] of names) {
      fieldset.append(make("label", {}, make("input", { type: "checkbox", value: name, checked: "" }), ` ${title}`));
    }
    hidden = new Set();
  }

  /** Draw what the controls ask for; `keep` writes it into the address. */
  function refresh(keep) {
    const value = alphas[Number(alpha.value)];
    const words = alphas.length ? `${value}` : "–";
    form.elements["alpha-said"].value = all.checked ? "all" : words;
    alpha.setAttribute("aria-valuetext", words);
    const fits = (image) =>
      (!truth.value || image.label === truth.value) && (!seen.value || image.predicted === seen.value) &&
      (!wanted.value || (image.label !== null && right(image) === (wanted.value === "right")));
    columns = network.images.filter(fits);
    rows = network.rows.filter((row) =>
      !hidden.has(row.name) && (!layer.value || row.layer === null || row.layer === layer.value) &&
      (row.alpha === null || all.checked || row.alpha === value) &&
      columns.some((image) => row.tile[network.images.indexOf(image)] !== null));
    const wrong = columns.filter((image) => !right(image)).length;
    $("#gallery-count").textContent = columns.length
      ? `${columns.length} of ${network.images.length} images, ${wrong} of them misclassified; ${rows.length} row${rows.length === 1 ? "" : "s"} of explanations`
      : "No image is like that.";
    build();
    if (keep) store();
  }

  function store(open = null) {
    const usual = (value, other) => (value === other ? null : value);
    remember("gallery", {
      net: usual(network.id, networks[0].id), class: truth.value, seen: seen.value, right: wanted.value, layer: layer.value,
      alpha: alphas.length > 1 ? usual(String(alphas[Number(alpha.value)]), String(alphas[0])) : null,
      all: all.checked ? "1" : null, hide: [...hidden], open,
    });
  }

  function cellOf(row, image) {
    const place = network.images.indexOf(image);
    if (row === null) return { tile: image.tile, kind: "image" };
    if (row === "mask") return { tile: image.mask, kind: "mask" };
    const tile = row.tile[place];
    if (tile === null) return null;
    return { tile, kind: row.kind, scale: row.scale?.[place], seen: row.seen?.[place], gap: row.gap?.[place] };
  }

  /** What the address calls a row: its number, or what it is. */
  const numbered = (row) => (row === null ? "original" : row === "mask" ? row : String(network.rows.indexOf(row)));
  const told = (row) => (row === null ? "original" : row === "mask" ? "ground truth" : [row.title, where(row)].filter(Boolean).join(", "));
  const where = (row) => [row.layer && `layer ${row.layer}`, row.alpha !== null && `alpha ${row.alpha}`].filter(Boolean).join(", ");
  const called = (image) => (image.label === null && image.file) || image.index; // own images have no number
  const about = (image) => [`image ${called(image)}`, ...(image.label === null ? [] : [`true class ${image.label}`])].join(", ");
  const shown = () => [null, ...(columns.some((image) => image.mask !== null) ? ["mask"] : []), ...rows];

  function build() {
    drawn.disconnect();
    const [height, width] = network.size, lines = shown();
    const room = (grid.clientWidth - 190) / columns.length - 4; // few images are shown larger
    if (room > 64) grid.style.setProperty("--tile", `${Math.min(96, Math.floor(room))}px`);
    else grid.style.removeProperty("--tile");
    grid.style.setProperty("--ratio", `${width} / ${height}`);
    const cells = (row, down) => columns.map((image, across) => {
      const cell = cellOf(row, image);
      if (!cell) return make(down ? "td" : "th", {});
      const label = `${told(row)}, ${about(image)}, predicted class ${image.predicted}${cell.seen ? `, of the reconstruction ${cell.seen}` : ""}`;
      const canvas = make("canvas", { "data-tile": cell.tile, "data-kind": cell.kind, width, height });
      const button = make("button", { type: "button", "aria-label": label, tabindex: -1, "data-at": `${down}:${across}` }, canvas);
      const caption = down ? cell.seen : named(image);
      const wrong = down ? cell.seen && cell.seen !== (image.label ?? image.predicted) : !right(image);
      return make(down ? "td" : "th", down ? {} : { scope: "col", title: image.file ?? null },
        ...(down ? [button] : []), ...(caption ? [make("span", { class: wrong ? "wrong" : null }, ...breakable(caption))] : []), ...(down ? [] : [button]));
    });
    const table = make("table", { class: "gallery", role: "grid", "aria-label": `explanations of ${network.label}` });
    table.append(...lines.map((row, down) => {
      const head = make("th", { scope: "row" }, row === null || row === "mask" ? told(row) : row.title);
      if (row && row.title && where(row)) head.append(make("small", {}, where(row)));
      return make("tr", {}, head, ...cells(row, down));
    }));
    grid.replaceChildren(...(columns.length ? [table] : []));
    for (const row of $$("tr", grid)) drawn.observe(row);
    at = [Math.min(at[0], lines.length - 1), Math.max(0, Math.min(at[1], columns.length - 1))];
    if (!buttonAt(...at)) at = [0, at[1]]; // this image has no such explanation
    buttonAt(...at)?.setAttribute("tabindex", 0);
    const corner = $("th", grid)?.getBoundingClientRect();
    if (corner) grid.style.scrollPadding = `${corner.height}px 8px 8px ${corner.width}px`; // what gets the focus is not under the heads
  }

  async function draw(entries) {
    const waiting = [];
    for (const entry of entries.filter((each) => each.isIntersecting)) {
      drawn.unobserve(entry.target);
      for (const canvas of $$("canvas", entry.target)) waiting.push(paint(canvas, Number(canvas.dataset.tile), canvas.dataset.kind));
    }
    await Promise.all(waiting);
    document.documentElement.dataset.drawn = "yes";
  }

  const buttonAt = (down, across) => $(`[data-at="${down}:${across}"]`, grid);
  const placeOf = (element) => element.closest?.("button[data-at]")?.dataset.at.split(":").map(Number);

  function focus(down, across) {
    const button = buttonAt(down, across);
    if (!button) return;
    buttonAt(...at)?.setAttribute("tabindex", -1);
    at = [down, across];
    button.setAttribute("tabindex", 0);
    button.focus();
  }

  function read(down, across, where) {
    const image = columns[across], row = shown()[down], cell = cellOf(row, image);
    const parts = [told(row), about(image), `predicted class ${image.predicted} (${image.probability.toFixed(3)})`];
    if (cell.seen) parts.push(`of the reconstruction ${cell.seen}`);
    const [first, second] = $$("#readout > span");
    first.textContent = parts.join(", ");
    second.textContent = where ?? "";
  }

  grid.addEventListener("mousemove", async (event) => {
    const place = placeOf(event.target);
    if (!place) return;
    const box = $("canvas", buttonAt(...place)).getBoundingClientRect();
    const cell = cellOf(shown()[place[0]], columns[place[1]]);
    const inside = (value) => Math.min(0.999, Math.max(0, value));
    read(...place, await valueAt(cell, inside((event.clientY - box.top) / box.height), inside((event.clientX - box.left) / box.width)));
  });
  grid.addEventListener("focusin", (event) => { const place = placeOf(event.target); if (place) read(...place); });
  grid.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    const [down, across] = placeOf(event.target) ?? at;
    if (move) {
      let next = [down + move[0], across + move[1]];
      const inside = () => next[0] >= 0 && next[1] >= 0 && next[0] < shown().length && next[1] < columns.length;
      while (inside() && !buttonAt(...next)) next = [next[0] + move[0], next[1] + move[1]];
      focus(...next);
    } else if (event.key === "Home") focus(down, 0);
    else if (event.key === "End") focus(down, columns.length - 1);
    else return;
    event.preventDefault();
  });
  grid.addEventListener("click", (event) => {
    const place = placeOf(event.target);
    if (place) enlarge(...place);
  });

  /** Show one cell large beside its image. */
  function enlarge(down, across) {
    at = [down, across];
    const image = columns[across], row = shown()[down], cell = cellOf(row, image);
    $("#enlarged-title").textContent = `${told(row)}: image ${called(image)}`;
    const both = [...(row === null ? [] : [[cellOf(null, image), "original"]]), ...(cell ? [[cell, told(row)]] : [])];
    const pair = both.map(([one, name]) => {
      const canvas = make("canvas", { role: "img", "aria-label": `${name} of image ${called(image)}`, width: network.size[1], height: network.size[0] });
      paint(canvas, one.tile, one.kind);
      canvas.addEventListener("mousemove", async (event) => {
        const box = canvas.getBoundingClientRect();
        $(".value", dialog).textContent = `${name}: ${await valueAt(one, (event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width)}`;
      });
      return make("figure", {}, canvas, make("figcaption", {}, name));
    });
    $(".pair", dialog).style.setProperty("--ratio", `${network.size[1]} / ${network.size[0]}`);
    $(".pair", dialog).replaceChildren(...pair);
    $(".value", dialog).textContent = `${TOUCH ? "tap" : "point at"} a pixel for its value`;
    const facts = [...(image.file ? [["file", image.file]] : []), ...(image.label === null ? [] : [["true class", image.label]]), ["predicted class", `${image.predicted}, probability ${image.probability.toFixed(4)}`]];
    if (cell?.seen) facts.push(["predicted class of the reconstruction", cell.seen]);
    if (cell?.scale !== undefined) facts.push(["largest value", said(cell.scale)]);
    if (cell?.gap !== undefined && cell.gap !== null) facts.push(["completeness gap", said(cell.gap)]);
    if (!cell) facts.push(["explanation", "there is none of this image"]);
    $("dl", dialog).replaceChildren(...facts.flatMap(([key, text]) => [make("dt", {}, key), make("dd", {}, text)]));
    if (!dialog.open) { dialog.showModal(); $("#enlarged-title").focus(); }
    store(`${image.index}:${numbered(row)}`);
  }

  function step(which, by) {
    const [down, across] = at, lines = shown().length;
    if (which === "row") enlarge((down + by + lines) % lines, across);
    else enlarge(down, (across + by + columns.length) % columns.length);
  }

  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // beside it
    const [which, by] = event.target.dataset.step?.split(":") ?? [];
    if (which) step(which, Number(by));
  });
  dialog.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: ["image", -1], ArrowRight: ["image", 1], ArrowUp: ["row", -1], ArrowDown: ["row", 1] }[event.key];
    if (move) { step(...move); event.preventDefault(); }
  });
  dialog.addEventListener("close", () => {
    if (document.documentElement.dataset.view !== "gallery") return; // the address led elsewhere
    store();
    if (!buttonAt(...at)) at = [0, at[1]];
    focus(...at);
  });

  net.addEventListener("input", () => { choose(networks.find((each) => each.id === net.value)); alpha.value = 0; all.checked = false; });
  fieldset.addEventListener("input", (event) => {
    if (event.target.checked) hidden.delete(event.target.value);
    else hidden.add(event.target.value);
  });
  form.addEventListener("input", () => refresh(true));
  form.addEventListener("submit", (event) => event.preventDefault());
  views.gallery = take;
}
