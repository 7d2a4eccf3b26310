"use strict";
// Makes long tables easier to read: columns that sort, and a field that filters rows. Without it all of a page is there.

for (const table of document.querySelectorAll("table[data-sort]")) {
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...table.tBodies[0].rows];
  const value = (row, column) => {
    const text = row.cells[column].textContent;
    const number = Number(text.replaceAll(",", ""));
    return text === "" || Number.isNaN(number) ? text : number;
  };
  const sort = (column) => {
    const ascending = heads[column].getAttribute("aria-sort") === "descending";
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", ascending ? "ascending" : "descending");
    rows.sort((a, b) => {
      const [one, other] = [value(a, column), value(b, column)];
      const order = typeof one === "number" && typeof other === "number" ? one - other : `${one}`.localeCompare(`${other}`);
      return ascending ? order : -order;
    });
    table.tBodies[0].append(...rows);
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(column));
    head.replaceChildren(button);
  });

  if (table.dataset.filter) {
    const label = document.createElement("label");
    const input = document.createElement("input");
    const told = document.createElement("span");
    input.type = "search";
    told.setAttribute("role", "status");
    label.append(`${table.dataset.filter} `, input);
    const line = document.createElement("div");
    line.className = "filter";
    line.append(label, told);
    table.parentElement.before(line);
    input.addEventListener("input", () => {
      const wanted = input.value.toLowerCase();
      let left = 0;
      for (const row of rows) {
        const text = `${row.cells[0].textContent} ${row.cells[1].textContent}`.toLowerCase();
        row.hidden = !text.includes(wanted);
        left += row.hidden ? 0 : 1;
      }
      told.textContent = wanted ? `${left} of ${rows.length} rows` : "";
    });
  }
}

// A link to a bug opens it, and paper shows all of them.
const opened = () => {
  const wanted = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (wanted instanceof HTMLDetailsElement) wanted.open = true;
};
addEventListener("hashchange", opened);
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => (one.open = true)));
opened();
