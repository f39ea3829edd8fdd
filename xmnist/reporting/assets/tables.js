// Tables that can be sorted by any column, and the list of runs.

function sort(table, column, descending) {
  const rows = $$("tbody tr", table), value = (row) => row.cells[column].dataset.v;
  rows.sort((a, b) => {
    if (!column) return (descending ? -1 : 1) * (a.cells[0].textContent.localeCompare(b.cells[0].textContent, "en", { numeric: true }));
    const [x, y] = [value(a), value(b)];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined); // the empty ones last
    return (descending ? -1 : 1) * (Number(x) - Number(y));
  });
  $("tbody", table).append(...rows);
  $$("thead th", table).forEach((head, place) => {
    if (place === column) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  });
}

function startTables() {
  const sorted = (table, view) => {
    $$("thead button", table).forEach((button, column) => button.addEventListener("click", () => {
      const descending = column ? button.parentNode.getAttribute("aria-sort") !== "descending" : button.parentNode.getAttribute("aria-sort") === "ascending";
      sort(table, column, descending);
      remember(view, { sort: `${table.id}:${column}:${descending ? "down" : "up"}` });
    }));
  };
  for (const view of ["tables", "cards"]) {
    for (const table of $$(`#view-${view} .sortable`)) sorted(table, view);
    views[view] = (choices) => {
      const [id, column, order] = (choices.get("sort") ?? "").split(":");
      const table = $$(`#view-${view} .sortable`).find((each) => each.id === id);
      if (table?.tHead.rows[0].cells[column]) sort(table, Number(column), order === "down");
      if (choices.get("table")) document.getElementById(choices.get("table"))?.scrollIntoView({ block: "center" });
      document.getElementById(`card-${choices.get("card")}`)?.scrollIntoView();
    };
  }
}

function startCopies() {
  for (const button of $$(".copies .copy")) {
    const table = document.getElementById(button.dataset.of), as = { csv, latex }[button.dataset.as];
    button.addEventListener("click", () => copy(button, as(table)));
  }
}

function startRuns() {
  const { find, found } = $("#view-runs form").elements, runs = $$("#view-runs details.run");
  function look() {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const run of runs) run.hidden = !words.every((word) => `${$("summary", run).textContent} ${$("code", run)?.textContent} ${run.id}`.toLowerCase().includes(word));
    const left = runs.filter((run) => !run.hidden).length;
    found.value = left === runs.length ? `${left} runs` : `${left} of ${runs.length} runs`;
  }
  const store = () => remember("runs", { find: find.value, run: runs.filter((run) => run.open).map((run) => run.id.slice(4)) });
  find.addEventListener("input", () => { look(); store(); });
  $("#view-runs form").addEventListener("submit", (event) => event.preventDefault());
  for (const run of runs) $("summary", run).addEventListener("click", () => setTimeout(store));
  for (const button of $$("#view-runs .copy")) button.addEventListener("click", () => copy(button, $("code", button.parentNode).textContent));
  views.runs = (choices) => {
    find.value = choices.get("find") ?? "";
    look();
    const asked = runs.filter((run) => choices.getAll("run").includes(run.id.slice(4)));
    for (const run of asked) run.open = true;
    asked[0]?.scrollIntoView();
  };
}

/** Copy a text; where the browser gives a page no clipboard, such as one that is a file, by way of a field. */
async function copy(button, text) {
  button.dataset.usual ??= button.textContent;
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = make("textarea", { class: "hidden", "aria-hidden": true });
    field.value = text;
    button.after(field);
    field.select();
    done = document.execCommand("copy");
    field.remove();
    button.focus();
  }
  say(button, done ? "copied" : "not allowed", button.dataset.usual);
  say($("#said"), button.textContent, "");
}

/** Write a text for a moment; what was to end an earlier one does not cut this one short. */
function say(element, text, after) {
  clearTimeout(element.dataset.timer);
  element.textContent = text;
  element.dataset.timer = setTimeout(() => { element.textContent = after; }, 1500);
}

/** The text of a table's cell, less what only the page needs. */
function textOf(cell) {
  const own = cell.cloneNode(true);
  for (const mark of $$(".warning, abbr[title^=better]", own)) mark.remove();
  return own.textContent.replace(/\s+/g, " ").trim();
}

const lines = (table, text) => [...table.rows].map((row) => [...row.cells].map(text));

/** A table as CSV: of what was measured the mean alone, with all its digits. */
function csv(table) {
  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  return lines(table, (cell) => quoted(cell.dataset.v ?? textOf(cell))).map((row) => `${row.join(",")}\n`).join("");
}

const LATEX = {
  "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}",
  "≈": "$\\approx$", "±": "$\\pm$", "−": "$-$", "→": "$\\rightarrow$",
};

/** A table as LaTeX with the rules of booktabs; what is best is bold. */
function latex(table) {
  const escaped = (text) => text.replace(/[\\~^<>|≈±−→]/g, (letter) => LATEX[letter] ?? letter);
  const all = (text) => text.split(/([&%$#_{}])/).map((part, place) => (place % 2 ? `\\${part}` : escaped(part))).join("");
  const minus = (text) => text.replace(/(^|[\s[])-(?=\d)/g, "$1−");
  const written = (cell) => {
    const text = all(cell.tagName === "TD" ? minus(textOf(cell)) : textOf(cell)).replace(/^[[*]/, "{$&}"); // else \\ takes it as its option
    return cell.classList.contains("best") ? `\\textbf{${text}}` : text;
  };
  const [head, ...body] = lines(table, written).map((row) => `${row.join(" & ")} \\\\\n`);
  const columns = `l${"r".repeat(table.rows[0].cells.length - 1)}`;
  return `\\begin{tabular}{${columns}}\n\\toprule\n${head}\\midrule\n${body.join("")}\\bottomrule\n\\end{tabular}\n`;
}
