{
  const data = embedded("table-data");
  const several = data.runs.length > 1;
  const SHOWN = 400; // rows without pages
  const svg = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const ends = data.rows.flatMap((row) => (row.drawn ? row.drawn.map((end) => Math.abs(infinite(end) ?? 0)) : []));
  const furthest = ends.reduce((most, end) => Math.max(most, end), 1e-9);

  // The change and its interval on one scale for all rows; coloured where it is clear of 0.
  function drawnChange(row) {
    if (!row.drawn) return "–";
    const [low, middle, high] = row.drawn.map((end) => 55 + (50 * infinite(end)) / furthest);
    const clear = high < 55 ? "clear-loss" : low > 55 ? "clear-gain" : "";
    const made = svg("svg", { viewBox: "0 0 110 18", "aria-hidden": "true" });
    made.append(
      svg("line", { x1: 55, x2: 55, y1: 0, y2: 18, class: "axis" }),
      svg("line", { x1: low, x2: high, y1: 9, y2: 9, class: "bar" }),
      svg("circle", { cx: middle, cy: 9, r: 3.2, class: clear }),
    );
    return made;
  }

  function shown(cell) {
    const made = element("span", { text: cell[1] });
    return cell[2] ? element("span", {}, made, element("span", { class: "interval", text: cell[2] })) : made;
  }

  const missing = Number.NEGATIVE_INFINITY; // sorts below everything
  const samples = ["correct_to_incorrect", "incorrect_to_correct", "wrong_to_wrong"]; // a click shows them
  function number({ key, label, meaning }, place) {
    const show = samples.includes(key) ? counted(place, label, key) : (row) => shown(row.cells[place]);
    const render = (_, type, row) => (type === "display" ? show(row) : infinite(row.cells[place][0]) ?? missing);
    const title = element("span", { text: label, title: meaning }).outerHTML;
    return { title, data: null, render, type: "num", className: "num" };
  }

  function text(key, title, className) {
    const render = (_, type, row) => (type === "display" ? breakable(row[key], key === "metric" ? /(?<=,)/u : undefined) : row[key].toLowerCase());
    return { title, data: null, render, type: "string", className };
  }

  function counted(place, label, direction) {
    return (row) => {
      const [value, words] = row.cells[place];
      if (!value || row.kind !== "task") return shown(row.cells[place]);
      const name = `${words} samples of ${row.name}, ${label}`;
      const button = element("button", { type: "button", class: "link", text: words, "aria-label": name });
      button.addEventListener("click", () => showSamples({ run: row.run, task: row.name, direction }));
      return button;
    };
  }

  const kinds = { task: 0, group: 1, pooled: 2 };
  const columns = [
    { title: "kind", data: (row) => kinds[row.kind], visible: false, type: "num" },
    { title: "model number", data: (row) => row.run, visible: false, type: "num" },
    text("name", "task", "name"),
    several && { ...text("run", "model", "c-run"), render: (_, type, row) => (type === "display" ? element("bdi", { text: data.runs[row.run] }) : row.run), type: "num" },
    text("metric", "metric", ""),
    ...data.columns.flatMap((column, place) => [
      number(column, place),
      column.key === "score_change" && { title: "95 % interval", data: null, className: "c-drawn", orderable: false, render: (_, type, row) => (type === "display" ? drawnChange(row) : "") },
    ]),
  ].filter(Boolean);

  whenNear(document.getElementById("tasks"), () => {
    library("tables");
    const run = document.getElementById("task-run");
    const search = document.getElementById("task-search");
    run.append(new Option("all models", ""), ...data.runs.map((name, place) => new Option(name, place)));
    document.getElementById("task-run-label").hidden = !several;
    const table = new DataTable("#task-table", {
      data: data.rows,
      columns: columns.map((column) => ({ ...column, searchable: false })),
      order: [],
      orderFixed: { pre: [[0, "asc"]] },
      paging: data.rows.length > SHOWN,
      pageLength: 100,
      autoWidth: false,
      layout: { topStart: null, topEnd: null, bottomStart: null, bottomEnd: data.rows.length > SHOWN ? "paging" : null },
      language: { emptyTable: "nothing to show", zeroRecords: "no task matches" },
      createdRow: (node, row) => node.classList.add(row.kind),
    });
    table.search.fixed("page", (_, row) => {
      if (run.value !== "" && row.run !== Number(run.value)) return false;
      const words = search.value.toLowerCase().split(/\s+/);
      const text = `${row.name} ${row.metric} ${data.runs[row.run]}`.toLowerCase();
      return words.every((word) => text.includes(word));
    });
    nameOfPages(table, "Pages of tasks");
    const count = document.getElementById("task-count");
    table.on("draw", () => {
      const { recordsDisplay, recordsTotal } = table.page.info();
      count.textContent = `${grouped(recordsDisplay)} of ${grouped(recordsTotal)} rows`;
    });
    const form = document.getElementById("task-filters");
    form.addEventListener("input", () => table.draw());
    form.addEventListener("submit", (event) => event.preventDefault());
    window.addEventListener("beforeprint", () => table.page.len(-1).draw());
    table.draw();
  });
}
