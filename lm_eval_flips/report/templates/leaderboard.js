(function () {
  "use strict";
  const numbers = JSON.parse(document.getElementById("numbers").textContent);
  const element = document.getElementById("board");
  const body = [...element.tBodies[0].rows];
  const first = FIRST; // columns before the numbers
  const byTask = new Map(Object.entries(numbers));
  const pooled = body.map((row) =>
    [...row.cells].slice(first, first + COUNT).map((cell) => [
      cell.firstChild ? cell.firstChild.nodeValue : "",
      cell.querySelector(".interval") ? cell.querySelector(".interval").textContent : "",
      cell.dataset.order === "" ? null : Number(cell.dataset.order),
    ]),
  );

  const table = new DataTable(element, {
    paging: false,
    info: false,
    layout: { topStart: null, topEnd: null, bottomStart: null, bottomEnd: null },
    order: [[0, "asc"]],
    autoWidth: false,
    columnDefs: [{ targets: "num", orderSequence: ["desc", "asc"] }],
  });

  const family = document.getElementById("family");
  const task = document.getElementById("task");
  const search = document.getElementById("search");
  const shown = document.getElementById("shown");

  function count() {
    const rows = table.rows({ search: "applied" }).count();
    shown.textContent = `${rows} of ${body.length} runs`;
  }

  function fill(cells) {
    cells.forEach((row, place) => {
      row.forEach(([text, interval, sort], column) => {
        const cell = body[place].cells[first + column];
        cell.textContent = text;
        cell.dataset.order = sort === null ? "" : String(sort);
        if (interval) {
          const small = document.createElement("span");
          small.className = "interval";
          small.textContent = interval;
          cell.append(small);
        }
      });
    });
    table.rows().invalidate("dom").draw();
  }

  family.addEventListener("change", () => {
    const wanted = family.value;
    table.search.fixed(
      "family",
      wanted === "" ? null : (text, data, index) => body[index].dataset.family === wanted,
    );
    table.draw();
  });
  task.addEventListener("change", () => {
    fill(task.value === "" ? pooled : byTask.get(task.value));
  });
  search.addEventListener("input", () => table.search(search.value).draw());
  document.getElementById("controls").addEventListener("submit", (event) => event.preventDefault());
  table.on("draw", count);
  count();
  document.getElementById("controls").hidden = false;
})();
