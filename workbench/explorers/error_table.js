// The errors as a table: a click or Enter picks one, arrow keys walk. Rows come ready to be shown.

function render({ model, el }) {
  el.classList.add("wb-errors");
  const table = document.createElement("table");
  const head = document.createElement("thead");
  const body = document.createElement("tbody");
  head.innerHTML =
    "<tr><th>recording</th><th>from – to</th><th>duration</th><th>what</th><th>reference</th><th>hypothesis</th></tr>";
  table.append(head, body);
  const note = document.createElement("div");
  note.className = "wb-errors-note";
  const frame = document.createElement("div");
  frame.className = "wb-errors-frame";
  frame.append(table);
  el.append(frame, note);

  const pick = (index) => {
    model.set("picked", { index, time: Date.now() }); // the time makes a second click on a row a change
    model.save_changes();
  };
  const mark = () => {
    [...body.children].forEach((row, index) => {
      row.classList.toggle("wb-picked", index === model.get("selected"));
      row.setAttribute("aria-selected", index === model.get("selected"));
    });
  };
  const fill = () => {
    body.replaceChildren(
      ...model.get("rows").map((cells, index) => {
        const row = document.createElement("tr");
        row.tabIndex = 0;
        const [kind, color, ...texts] = cells;
        texts.forEach((text, column) => {
          const cell = document.createElement("td");
          if (column === 3) {
            const chip = document.createElement("span");
            chip.className = "wb-chip";
            chip.style.background = color;
            cell.append(chip);
          }
          cell.append(text);
          row.append(cell);
        });
        row.dataset.kind = kind;
        row.addEventListener("click", () => pick(index));
        row.addEventListener("keydown", (event) => {
          const next = { ArrowDown: row.nextElementSibling, ArrowUp: row.previousElementSibling }[event.key];
          if (event.key === "Enter") pick(index);
          if (next) next.focus();
          if (event.key === "Enter" || next) {
            event.preventDefault();
            event.stopPropagation(); // JupyterLab would move to another cell
          }
        });
        return row;
      }),
    );
    mark();
  };
  const say = () => (note.textContent = model.get("note"));
  model.on("change:rows", fill);
  model.on("change:selected", mark);
  model.on("change:note", say);
  fill();
  say();
}

export default { render };
