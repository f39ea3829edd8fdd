// Charts: panels of lines that can be hidden, read, and enlarged.

const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#7a5fd0", "#b3123b", "#7f9a00"];
const DASHES = [null, "6 3", "2 2"]; // after ten lines the colours come again

function startCharts(charts) {
  if (!charts.length) return;
  const form = $("#curves-controls"), { chart: select, log } = form.elements, legend = $("#view-curves .lines"), place = $("#view-curves .panels");
  const kinds = [...new Set(charts.map((each) => each.kind))];
  for (const kind of kinds) {
    const options = charts.filter((each) => each.kind === kind).map((each) => make("option", { value: each.id }, `${kind}: ${each.label}`));
    select.append(make("optgroup", { label: kind }, ...options));
  }
  let chart = null, hidden = new Set(), zooms = new Map();

  function take(choices) {
    const wanted = charts.find((each) => each.id === choices.get("chart")) ?? charts[0];
    if (wanted !== chart) zooms = new Map();
    chart = wanted;
    select.value = chart.id;
    log.checked = choices.get("log") === "1";
    hidden = new Set(choices.getAll("hide"));
    refresh(false);
  }

  const names = () => [...new Map(chart.panels.flatMap((panel) => panel.lines.map((line) => [line.name, line])))];

  function look({ name, quiet, colour, dash }) {
    if (colour && !quiet) return { stroke: colour === "#000000" ? "var(--text)" : colour, "stroke-dasharray": dash || null };
    const alike = names().filter(([, line]) => line.quiet === quiet), order = alike.findIndex(([each]) => each === name);
    if (quiet) return { stroke: "var(--quiet)", "stroke-dasharray": ["5 3", "2 3", "9 3 2 3"][order % 3] };
    return { stroke: COLOURS[order % 10], "stroke-dasharray": DASHES[Math.floor(order / 10) % 3] };
  }

  const sample = (line, width) => make("svg", { width, height: 10, "aria-hidden": true },
    make("line", { x1: 0, x2: width, y1: 5, y2: 5, "stroke-width": 2, ...look(line) }));

  /** Draw the chart that is chosen, with its lines to be hidden; `keep` writes it into the address. */
  function refresh(keep = true) {
    legend.replaceChildren(...names().map(([name, line]) => {
      return make("button", { type: "button", "aria-pressed": !hidden.has(name), click: (event) => {
        if (!hidden.delete(name)) hidden.add(name);
        event.currentTarget.setAttribute("aria-pressed", !hidden.has(name));
        redraw();
      } }, sample(line, 24), name);
    }));
    redraw(keep);
  }

  function redraw(keep = true) {
    place.replaceChildren(...chart.panels.map(panelOf));
    if (keep) {
      const usual = chart === charts[0] ? null : chart.id;
      remember("curves", { chart: usual, hide: [...hidden], log: log.checked ? "1" : null });
    }
  }

  function panelOf(panel, number) {
    const W = 420, H = panel.square ? 380 : 280, left = 52, right = 10, top = 8, bottom = 40;
    const lines = panel.lines.filter((line) => !hidden.has(line.name));
    const scale = log.checked && !panel.square ? (y) => Math.log10(y) : (y) => y;
    const good = (y) => y !== null && Number.isFinite(scale(y));
    const points = lines.map((line) => line.x.map((x, i) => [x, line.y[i]]).filter(([x, y]) => x !== null && good(y)));
    const flat = points.flat();
    const range = (values) => { const low = Math.min(...values), high = Math.max(...values); return low < high ? [low, high] : [low - 0.5, high + 0.5]; };
    const wider = ([low, high]) => (panel.square ? [-0.01, 1.01] : [low - 0.04 * (high - low), high + 0.04 * (high - low)]);
    const full = flat.length ? [(panel.square ? wider : (each) => each)(range(flat.map(([x]) => x))), wider(range(flat.map(([, y]) => scale(y))))] : [[0, 1], [0, 1]];
    const [[x0, x1], [y0, y1]] = zooms.get(number) ?? full;
    const X = (x) => left + ((x - x0) / (x1 - x0)) * (W - left - right), Y = (y) => H - bottom - ((y - y0) / (y1 - y0)) * (H - top - bottom);
    const svg = make("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", tabindex: 0 });
    const ends = lines.map((line) => `${line.name} ${line.area !== undefined ? `${panel.area} ${said(line.area)}` : line.y.length ? said(line.y.at(-1) ?? NaN) : ""}`);
    svg.setAttribute("aria-label", `${panel.title}: ${panel.y ?? ""} by ${panel.x}; ${panel.area ?? "last values"}: ${ends.join(", ")}`);
    const put = (name, attributes, ...children) => svg.append(make(name, attributes, ...children));
    for (const value of ticks(x0, x1, panel.x === "epoch")) {
      put("line", { x1: X(value), x2: X(value), y1: top, y2: H - bottom, class: "rule" });
      put("text", { x: X(value), y: H - bottom + 16, class: "tick middle" }, short(value));
    }
    for (const value of ticks(y0, y1)) {
      put("line", { x1: left, x2: W - right, y1: Y(value), y2: Y(value), class: "rule" });
      put("text", { x: left - 6, y: Y(value) + 4, class: "tick end" }, scale(10) === 1 ? short(10 ** value) : short(value));
    }
    put("text", { x: (left + W - right) / 2, y: H - 6, class: "axis middle" }, panel.x);
    if (panel.y) put("text", { x: 12, y: (top + H - bottom) / 2, class: "axis middle", transform: `rotate(-90 12 ${(top + H - bottom) / 2})` }, panel.y);
    for (const mark of panel.marks ?? []) put("line", { x1: X(mark), x2: X(mark), y1: top, y2: H - bottom, class: "mark" });
    const inner = make("svg", { x: left, y: top, width: W - left - right, height: H - top - bottom, viewBox: `${left} ${top} ${W - left - right} ${H - top - bottom}` });
    points.forEach((own, i) => {
      const path = own.map(([x, y], j) => `${j ? "L" : "M"}${X(x).toFixed(1)} ${Y(scale(y)).toFixed(1)}`).join("");
      inner.append(make("path", { d: own.length === 1 ? `${path}h.1` : path, fill: "none", "stroke-width": 1.8, "stroke-linecap": "round", ...look(lines[i]) }));
    });
    const cross = make("line", { y1: top, y2: H - bottom, class: "cross", visibility: "hidden" });
    const frame = make("rect", { class: "frame", visibility: "hidden" });
    inner.append(cross, frame);
    svg.append(inner);
    const tip = make("div", { class: "tip", hidden: "" });
    const stops = [...new Set(flat.map(([x]) => x))].filter((x) => x >= x0 && x <= x1).sort((a, b) => a - b);
    let stop = -1;

    function tell(next) {
      stop = Math.max(0, Math.min(stops.length - 1, next));
      const x = stops[stop];
      if (x === undefined) return;
      cross.setAttribute("x1", X(x)); cross.setAttribute("x2", X(x)); cross.setAttribute("visibility", "visible");
      const found = points.map((own, i) => [lines[i], own.reduce((best, point) => (best && Math.abs(best[0] - x) <= Math.abs(point[0] - x) ? best : point), null)])
        .filter(([, point]) => point).sort((a, b) => b[1][1] - a[1][1]);
      tip.replaceChildren(make("b", {}, `${panel.x} ${short(x)}`), ...found.slice(0, 14).map(([line, point]) =>
        make("span", {}, sample(line, 14), ` ${said(point[1])} ${line.name}${line.area === undefined ? "" : ` (${panel.area} ${said(line.area)})`}`)));
      tip.hidden = false;
      tip.style.left = X(x) > W / 2 ? "auto" : `${(100 * (X(x) + 8)) / W}%`;
      tip.style.right = X(x) > W / 2 ? `${(100 * (W - X(x) + 8)) / W}%` : "auto";
    }
    const leave = () => { tip.hidden = true; cross.setAttribute("visibility", "hidden"); };
    const inPanel = (event) => { const box = svg.getBoundingClientRect(); return [((event.clientX - box.left) / box.width) * W, ((event.clientY - box.top) / box.height) * H]; };
    const toData = ([x, y]) => [x0 + ((x - left) / (W - left - right)) * (x1 - x0), y0 + ((H - bottom - y) / (H - top - bottom)) * (y1 - y0)];
    let from = null;
    svg.addEventListener("pointerdown", (event) => { point(event); if (event.pointerType === "mouse") { from = inPanel(event); svg.setPointerCapture(event.pointerId); } });
    function point(event) {
      const at = toData(inPanel(event))[0];
      if (stops.length) tell(stops.reduce((best, value, i) => (Math.abs(value - at) < Math.abs(stops[best] - at) ? i : best), 0));
    }
    svg.addEventListener("pointermove", (event) => {
      point(event);
      if (!from) return;
      const [x, y] = inPanel(event);
      for (const [key, value] of Object.entries({ x: Math.min(x, from[0]), y: Math.min(y, from[1]), width: Math.abs(x - from[0]), height: Math.abs(y - from[1]), visibility: "visible" })) frame.setAttribute(key, value);
    });
    svg.addEventListener("pointerup", (event) => {
      const start = from, end = inPanel(event);
      from = null;
      frame.setAttribute("visibility", "hidden");
      if (!start || Math.abs(end[0] - start[0]) < 8 || Math.abs(end[1] - start[1]) < 8) return;
      const [a, b] = [toData(start), toData(end)];
      const zoom = [0, 1].map((axis) => [Math.min(a[axis], b[axis]), Math.max(a[axis], b[axis])]);
      if (zoom.some(([low, high], axis) => high - low < 1e-5 * (full[axis][1] - full[axis][0]))) return; // nothing is to be seen there
      zooms.set(number, zoom);
      redraw();
    });
    svg.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") leave(); }); // a finger leaves at once
    svg.addEventListener("blur", leave);
    svg.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by) return;
      tell(stop + by);
      $("#chart-said").textContent = [...tip.children].map((line) => line.textContent).join(", ");
      event.preventDefault();
    });
    return make("figure", { class: "panel" }, make("figcaption", {}, panel.title), svg, tip);
  }

  /** Round values between two bounds. */
  function ticks(low, high, integers = false) {
    const raw = (high - low) / 5, power = 10 ** Math.floor(Math.log10(raw)), step = Math.max(integers ? 1 : 0, [1, 2, 5, 10].find((each) => each * power >= raw) * power);
    const out = [];
    for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-9; value += step) out.push(value);
    return out;
  }
  const short = (value) => Number(value.toPrecision(6)).toString().replace("-", "−");

  select.addEventListener("change", () => { chart = charts.find((each) => each.id === select.value); hidden = new Set(); zooms = new Map(); refresh(); });
  log.addEventListener("change", () => { zooms = new Map(); redraw(); });
  form.elements.reset.addEventListener("click", () => { zooms = new Map(); redraw(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  views.curves = take;
}
