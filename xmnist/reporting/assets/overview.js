// The overview's strip: a few images of the first network, each with its first explanations.

const STRIP = 6; // images

function startOverview(networks) {
  const strip = $(".strip");
  if (!strip || !networks.length) return;
  const network = networks[0], of = (...kinds) => network.rows.filter((row) => kinds.includes(row.kind));
  const rows = [...of("heatmap", "map").slice(-2), ...of("image").slice(-1)];
  strip.style.setProperty("--ratio", `${network.size[1]} / ${network.size[0]}`);
  const canvas = (number, kind) => {
    const element = make("canvas", { width: network.size[1], height: network.size[0], "aria-hidden": true });
    paint(element, number, kind);
    return element;
  };
  for (const [place, image] of network.images.slice(0, STRIP).entries()) {
    const own = rows.filter((row) => row.tile[place] !== null).map((row) => make("div", {}, make("figure", { class: "small" }, canvas(row.tile[place], row.kind), make("span", {}, row.title))));
    const first = make("figure", { class: "small" }, canvas(image.tile, "image"), make("span", { class: right(image) ? null : "wrong" }, named(image)));
    strip.append(make("div", {}, first, ...own));
  }
}
