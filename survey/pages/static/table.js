/* A table of any length: only the rows in sight are elements. Sorting, a filter of words and conditions. */

const ROW = 30;

/** The parts of a filter text: words, and conditions without the blanks around their signs. */
function filterParts(filter, names) {
  const joined = filter.replaceAll(/([^\s<>=!]+)(\s*)(<=|>=|!=|<|>|=)(\s*)/g, (all, name, before, sign, after) =>
    (names.has(name.toLowerCase()) || (before && after) ? name + sign : all));
  return joined.trim().split(/\s+/).filter(Boolean);
}

/**
 * The rows that fit a filter text: words that a row contains, and conditions such as FeH<-2 or snr>=30.
 * `columns` gives the values by name, `text` the searched text of a row.
 */
function readFilter(filter, columns, text) {
  const names = new Map(Object.keys(columns).map((name) => [name.toLowerCase(), name]));
  const tests = [];
  const problems = [];
  for (const part of filterParts(filter, names)) {
    const found = part.match(/^([^<>=!]+)(<=|>=|!=|<|>|=)(.+)$/);
    if (!found) {
      const word = part.toLowerCase();
      tests.push((row) => text(row).toLowerCase().includes(word));
      continue;
    }
    const [, given, sign, wanted] = found;
    const name = names.get(given.toLowerCase());
    if (!name) {
      problems.push(`there is no column ${given}`);
      continue;
    }
    const number = Number(wanted);
    const isNumber = wanted !== "" && !Number.isNaN(number);
    if (!isNumber && !["=", "!="].includes(sign)) {
      problems.push(`${wanted} is no number`);
      continue;
    }
    const equal = (value) => (isNumber && typeof value === "number" ? value === number : String(value) === wanted);
    const compare = {
      "<": (value) => value < number,
      ">": (value) => value > number,
      "<=": (value) => value <= number,
      ">=": (value) => value >= number,
      "=": equal,
      "!=": (value) => !equal(value),
    }[sign];
    tests.push((row) => columns[name][row] !== null && compare(columns[name][row]));
  }
  return { fits: (row) => tests.every((test) => test(row)), problem: problems.join("; ") };
}

/** Orders rows by a column; unknown values come last. */
function sorted(rows, value, falls) {
  const sign = falls ? -1 : 1;
  return [...rows].sort((first, second) => {
    const [a, b] = [value(first), value(second)];
    const [noA, noB] = [a === null || a === undefined || a === "", b === null || b === undefined || b === ""];
    if (noA || noB) return noA - noB || first - second;
    if (a < b) return -sign;
    if (a > b) return sign;
    return first - second;
  });
}

/** The table in a host element. Columns: {title, width, value(row), text(row), numeric, class(row)}. */
class LongTable {
  constructor(host, { columns, rows, label, onSelect, onSort, rowClass }) {
    Object.assign(this, { host, columns, rows, onSelect, onSort, rowClass });
    this.shown = rows;
    this.sort = null;
    this.falls = false;
    this.selected = null;
    this.head = element("div", { class: "long-head", role: "row" });
    this.body = element("div", { class: "long-body", tabindex: 0, role: "rowgroup" });
    this.space = element("div", { class: "long-space", role: "presentation" });
    this.body.append(this.space);
    const grid = element("div", { class: "long-table", role: "table", "aria-label": label }, this.head, this.body);
    host.replaceChildren(grid);
    grid.style.setProperty("--least", `${columns.length * 66}px`);
    grid.style.setProperty("--columns", columns.map((column) => column.width ?? "1fr").join(" "));
    this.drawHead();
    this.body.addEventListener("scroll", () => this.draw(), { passive: true });
    this.body.addEventListener("click", (event) => {
      const row = event.target.closest("[data-row]");
      if (row && !event.target.closest("a")) this.onSelect?.(Number(row.dataset.row));
    });
    new ResizeObserver(() => this.draw()).observe(this.body);
    this.show(rows);
  }

  drawHead() {
    this.head.replaceChildren(
      ...this.columns.map((column, number) => {
        const state = this.sort === number ? (this.falls ? "descending" : "ascending") : "none";
        const mark = { descending: " ↓", ascending: " ↑", none: "" }[state];
        const button = element("button", {
          type: "button",
          text: column.title + mark,
          title: column.about ?? `sort by ${column.title}`,
          on: { click: () => this.sortBy(number) },
        });
        const kind = column.numeric ? "number" : "";
        return element("div", { class: kind, role: "columnheader", "aria-sort": state }, button);
      }),
    );
  }

  /** Sort by a column; a second time in the other direction, a third time not at all. */
  sortBy(number) {
    const firstFalls = Boolean(this.columns[number].falls);
    if (this.sort !== number) [this.sort, this.falls] = [number, firstFalls];
    else if (this.falls === firstFalls) this.falls = !this.falls;
    else this.sort = null;
    this.drawHead();
    this.show(this.rows);
    this.onSort?.();
  }

  /** Show these rows, in the order of the present sorting. */
  show(rows) {
    this.rows = rows;
    const column = this.sort === null ? null : this.columns[this.sort];
    this.shown = column ? sorted(rows, column.value, this.falls) : rows;
    this.space.style.height = `${this.shown.length * ROW}px`;
    if (this.host.classList.contains("long-place")) this.body.style.height = `${Math.min(420, Math.max(rows.length, 1) * ROW + 2)}px`;
    this.head.parentElement.setAttribute("aria-rowcount", this.shown.length + 1);
    this.draw();
  }

  draw() {
    const first = Math.max(0, Math.floor(this.body.scrollTop / ROW) - 4);
    const count = Math.ceil((this.body.clientHeight || 400) / ROW) + 8;
    const rows = this.shown.slice(first, first + count);
    this.space.replaceChildren(...rows.map((row, place) => this.line(row, first + place)));
  }

  line(row, place) {
    const cells = this.columns.map((column) => {
      const content = column.text(row);
      const kind = [column.numeric ? "number" : "", column.class?.(row) ?? ""].join(" ").trim();
      const cell = element("div", { class: kind, role: "cell" });
      cell.append(content instanceof Node ? content : String(content));
      if (!(content instanceof Node) && String(content).length > 10) cell.title = String(content);
      return cell;
    });
    const names = ["long-row", row === this.selected ? "is-selected" : "", this.rowClass?.(row) ?? ""];
    const line = element("div", {
      class: names.join(" ").trim(),
      role: "row",
      "aria-rowindex": place + 2,
      "aria-selected": row === this.selected ? "true" : "false",
      "data-row": row,
    }, ...cells);
    line.style.transform = `translateY(${place * ROW}px)`;
    return line;
  }

  /** Mark a row and bring it into sight. */
  select(row) {
    this.selected = row;
    const place = this.shown.indexOf(row);
    if (place >= 0) {
      const [top, height] = [place * ROW, this.body.clientHeight];
      if (top < this.body.scrollTop) this.body.scrollTop = top;
      if (top + ROW > this.body.scrollTop + height) this.body.scrollTop = top + ROW - height;
    }
    this.draw();
  }
}
