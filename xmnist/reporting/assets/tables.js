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

/** Copy a text; where the browser does not let a page do that, it is selected, ready to be copied by hand. */
async function copy(button, text) {
  const usual = button.textContent;
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
  }
  button.textContent = done ? "copied" : "could not copy";
  setTimeout(() => { button.textContent = usual; }, 1500);
}

const cells = (table) => [...table.rows].map((row) => [...row.cells]);

/** A table as CSV: the numbers alone, with the digits that they were measured with. */
function csv(table) {
  const text = (cell) => cell.dataset.v ?? cell.textContent.trim();
  return cells(table).map((row) => row.map(text).map((each) => (/[",\n]/.test(each) ? `"${each.replaceAll('"', '""')}"` : each)).join(",")).join("\n") + "\n";
}

/** A table as LaTeX, with the rules of booktabs: what is best is bold. */
function latex(table) {
  const escape = (text) => text.replace(/[\\&%$#_{}~^]/g, (letter) => ({ "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}" })[letter] ?? `\\${letter}`)
    .replaceAll("≈", "$\\approx$").replaceAll("±", "$\\pm$").replaceAll("−", "$-$").replaceAll("★", "").trim();
  const text = (cell) => { const own = escape(cell.textContent.replace(/\s+/g, " ")); return cell.classList.contains("best") ? `\\textbf{${own}}` : own; };
  const lines = cells(table).map((row) => `${row.map(text).join(" & ")} \\\\`), width = table.rows[0].cells.length;
  return ["\\begin{tabular}{l" + "r".repeat(width - 1) + "}", "\\toprule", lines[0], "\\midrule", ...lines.slice(1), "\\bottomrule", "\\end{tabular}"].join("\n") + "\n";
}
