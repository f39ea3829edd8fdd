// The overview's strip: a few images of the first network, with the explanations that measured best.

const STRIP = innerWidth < 640 ? 4 : 6; // images

/** Up to two rows of maps, those of the best explainers first and no control, and one of reconstructions. */
function strongest(network, ranks) {
  const order = ranks[network.id] ?? [], maps = network.rows.filter((row) => !row.control && row.kind !== "image" && row.kind !== "difference");
  const rank = (row) => (order.includes(row.name) ? order.indexOf(row.name) : order.length);
  const one = maps.sort((a, b) => rank(a) - rank(b)).filter((row, place) => maps.findIndex((each) => each.name === row.name) === place);
  const images = network.rows.filter((row) => row.kind === "image");
  return [...one.slice(0, 2), images.find((row) => row.name === "cladec" && row.alpha) ?? images[0]].filter(Boolean);
}

function startOverview(networks, ranks) {
  if (!networks.length) return;
  const strip = $(".strip"), network = networks[0], rows = strongest(network, ranks);
  $(".strip-of").textContent = network.label;
  const explained = (place) => rows.filter((row) => row.tile[place] !== null).length;
  const places = [...network.images.keys()].sort((a, b) => explained(b) - explained(a)).slice(0, STRIP).sort((a, b) => a - b);
  const painted = (number, kind) => {
    const canvas = make("canvas", { width: network.size[1], height: network.size[0], "aria-hidden": true });
    paint(canvas, number, kind);
    return canvas;
  };
  strip.style.setProperty("--ratio", `${network.size[1]} / ${network.size[0]}`);
  strip.style.setProperty("--count", places.length);
  const names = places.map((place) => make("span", { class: right(network.images[place]) ? null : "wrong" }, ...breakable(named(network.images[place]))));
  strip.append(make("span", { class: "row" }), ...names, make("span", { class: "row" }, "original"),
    ...places.map((place) => painted(network.images[place].tile, "image")));
  for (const row of rows) {
    strip.append(make("span", { class: "row" }, [row.title, row.alpha !== null && `alpha ${row.alpha}`].filter(Boolean).join(", ")),
      ...places.map((place) => (row.tile[place] === null ? make("span") : painted(row.tile[place], row.kind))));
  }
}
