// Tables with the class "sortable", or inside an element with it: click a heading to sort by it,
// type to keep the rows that contain all the words. Without scripts they are ordinary tables.
(() => {
  const key = (row, column) => {
    const cell = row.cells[column];
    return cell ? (cell.dataset.sort ?? cell.textContent).trim() : "";
  };
  const number = (text) => {
    const found = text.replace(/,/g, "").match(/^[^\d-]{0,2}(-?\d+(\.\d+)?)/);
    return found ? parseFloat(found[1]) : NaN;
  };
  const compare = (a, b, direction) => {
    const [x, y] = [number(a), number(b)];
    if (!isNaN(x) && !isNaN(y)) return direction * (x - y);
    if (isNaN(x) !== isNaN(y)) return isNaN(x) ? 1 : -1; // what is no number goes last
    return direction * a.localeCompare(b);
  };

  const sort = (table, column, heading) => {
    const falling = heading.getAttribute("aria-sort") === "ascending";
    for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = [...body.rows];
    rows.sort((a, b) => compare(key(a, column), key(b, column), falling ? -1 : 1));
    body.append(...rows);
  };

  const addFilter = (table) => {
    const label = document.createElement("label");
    const input = document.createElement("input");
    const count = document.createElement("span");
    input.type = "search";
    label.className = "sortable-filter";
    label.append("Filter rows ", input, count);
    count.setAttribute("role", "status");
    const rows = [...table.tBodies[0].rows];
    const filter = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
      count.textContent = ` ${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
    };
    input.addEventListener("input", filter);
    filter();
    (table.closest(".mergebook-scroll, .pst-scrollable-table-container") ?? table).before(label);
  };

  const enhance = (table) => {
    const headings = table.tHead?.rows[table.tHead.rows.length - 1];
    if (!headings || !table.tBodies[0]) return;
    [...headings.cells].forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => sort(table, column, heading));
    });
    if (table.tBodies[0].rows.length > 10) addFilter(table); // a short one is seen at a glance
  };

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("table.sortable, .sortable table").forEach(enhance);
  });
})();
