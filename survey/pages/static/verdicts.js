/* Verdicts of one person about one list: kept in the browser, saved to and loaded from files. */

const VERDICTS = ["accept", "reject", "unsure"];
const VERDICT_COLUMNS = ["list_id", "list", "star", "look", "verdict", "quality", "note", "user", "time"];

/** The cells of a CSV text; quoted cells may hold commas, quotes and line ends. */
function parseCsv(text) {
  const rows = [];
  let [row, cell, quoted] = [[], "", false];
  for (let at = 0; at < text.length; at += 1) {
    const letter = text[at];
    if (quoted) {
      if (letter === '"' && text[at + 1] === '"') { cell += '"'; at += 1; }
      else if (letter === '"') quoted = false;
      else cell += letter;
    } else if (letter === '"') quoted = true;
    else if (letter === ",") { row.push(cell); cell = ""; }
    else if (letter === "\n" || letter === "\r") {
      if (letter === "\r" && text[at + 1] === "\n") at += 1;
      row.push(cell);
      rows.push(row);
      [row, cell] = [[], ""];
    } else cell += letter;
  }
  if (cell || row.length) rows.push([...row, cell]);
  return rows.filter((cells) => cells.length > 1);
}

/** The rows of a file of verdicts, CSV or JSON. */
function verdictRows(text) {
  if (text.trimStart().startsWith("{")) {
    const parsed = JSON.parse(text);
    if (parsed.format !== "survey-verdicts") throw new Error("it is no file of verdicts");
    return parsed.verdicts;
  }
  const [head, ...cells] = parseCsv(text.replace(/^\ufeff/, ""));
  if (!head || !["star", "verdict"].every((name) => head.includes(name))) throw new Error("it has no columns star and verdict");
  return cells.map((row) => Object.fromEntries(head.map((name, place) => [name, row[place] ?? ""])));
}

/** A time of a file, written so that the order of texts is that of times; empty if it is no time. */
function timeText(text) {
  const time = Date.parse(text);
  return time < Date.UTC(9999, 0) ? new Date(time).toISOString() : "";
}

const csvCell = (value) => (/[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);

class VerdictBook {
  constructor(listId, list, stars) {
    Object.assign(this, { listId, list });
    this.isStar = new Set(stars);
    this.listeners = [];
    this.user = memory.get("survey-user") ?? "";
    this.read();
    window.addEventListener("storage", (event) => {
      if (event.key === this.key) this.takeFromWindow(event.newValue);
    });
  }

  get key() {
    return `survey-verdicts:${this.listId}:${this.user}`;
  }

  read() {
    this.records = new Map(this.stored());
  }

  /** What the browser keeps; other windows with this page write it too. */
  stored() {
    return Object.entries(JSON.parse(memory.get(this.key) ?? "{}"));
  }

  /** Take in records of another window; of two about the same star the newer one counts. */
  takeNewer(records) {
    for (const [id, record] of records) {
      const own = this.records.get(id);
      if (!own || own.time < record.time) this.records.set(id, record);
    }
  }

  /** Another window has written these records. They are written again if that window did not know newer ones.
   * If it has moved the records without a name to a name, this window takes that name too. */
  takeFromWindow(text) {
    const written = JSON.parse(text ?? "{}");
    const name = memory.get("survey-user") ?? "";
    if (!this.user && name && !Object.keys(written).length) {
      this.setUser(name);
      return;
    }
    this.takeNewer(Object.entries(written));
    if ([...this.records].some(([id, { time }]) => time > (written[id]?.time ?? ""))) this.write();
    else this.listeners.forEach((run) => run());
  }

  write() {
    this.takeNewer(this.stored());
    memory.set(this.key, JSON.stringify(Object.fromEntries(this.records)));
    this.listeners.forEach((run) => run());
  }

  /** Another person. Verdicts that were given without a name become those of the next name; of two about the
   * same star the newer one counts. */
  setUser(name) {
    const before = this.user;
    const after = name.trim().slice(0, 60);
    if (after === before) return;
    this.takeNewer(this.stored());
    const given = this.records;
    this.user = after;
    memory.set("survey-user", this.user);
    this.read();
    if (!before) {
      for (const [id, record] of given) {
        if ((this.records.get(id)?.time ?? "") <= record.time) this.records.set(id, record);
      }
      memory.set(`survey-verdicts:${this.listId}:`, "{}");
    }
    this.write();
  }

  static id(star, look) {
    return `${look}|${star}`;
  }

  get(star, look) {
    return this.records.get(VerdictBook.id(star, look)) ?? null;
  }

  /** Change a part of a record. The same verdict or quality again takes it back; the record stays, so that a
   * saved file says so and an older file does not bring the verdict back. */
  change(star, look, part) {
    const before = this.get(star, look) ?? { verdict: "", quality: null, note: "", time: "" };
    const last = Date.parse(before.time) || 0; // may be of a clock that is fast
    const after = { ...before, ...part, time: new Date(Math.max(Date.now(), last + 1)).toISOString() };
    if (part.verdict && part.verdict === before.verdict) after.verdict = "";
    if (part.quality && part.quality === before.quality) after.quality = null;
    this.records.set(VerdictBook.id(star, look), after);
    this.write();
  }

  counts() {
    const found = { accept: 0, reject: 0, unsure: 0, seen: 0 };
    for (const { verdict } of this.records.values()) {
      if (!verdict) continue;
      found[verdict] += 1;
      found.seen += 1;
    }
    return found;
  }

  rows() {
    return [...this.records].map(([id, record]) => {
      const cut = id.indexOf("|");
      return {
        list_id: this.listId,
        list: this.list,
        star: id.slice(cut + 1),
        look: Number(id.slice(0, cut)),
        verdict: record.verdict,
        quality: record.quality,
        note: record.note,
        user: this.user,
        time: record.time,
      };
    });
  }

  toCsv() {
    const lines = this.rows().map((row) => VERDICT_COLUMNS.map((name) => csvCell(String(row[name] ?? ""))).join(","));
    return `${[VERDICT_COLUMNS.join(","), ...lines].join("\n")}\n`;
  }

  toJson() {
    return JSON.stringify({ format: "survey-verdicts", version: 1, verdicts: this.rows() }, null, 1);
  }

  isOfList(row) {
    return !row.list_id || row.list_id === this.listId;
  }

  /** Without a name, take that of a file of one person; not where verdicts without a name would become theirs. */
  takeName(rows) {
    if (this.user || this.records.size) return;
    const names = new Set(rows.filter((row) => this.isOfList(row)).map((row) => row.user).filter(Boolean));
    if (names.size === 1) this.setUser(String([...names][0]));
  }

  /** Take in the verdicts of a file; the newer one of two counts. Returns what was done, in words. */
  load(text) {
    const rows = verdictRows(text);
    this.takeName(rows);
    const found = { taken: 0, older: 0, strange: 0, others: 0, lists: 0 };
    for (const row of rows) {
      const verdict = VERDICTS.includes(row.verdict) ? row.verdict : "";
      const quality = [1, 2, 3, 4].includes(Number(row.quality)) ? Number(row.quality) : null;
      const look = Number(row.look) === 2 ? 2 : 1;
      const [star, note, time] = [String(row.star), String(row.note ?? "").slice(0, 2000), timeText(row.time ?? "")];
      if (!this.isOfList(row)) found.lists += 1;
      else if (!this.isStar.has(star)) found.strange += 1;
      else if (row.user && row.user !== this.user) found.others += 1;
      else if ((this.get(star, look)?.time ?? "") > time) found.older += 1;
      else {
        this.records.set(VerdictBook.id(star, look), { verdict, quality, note, time });
        found.taken += 1;
      }
    }
    this.write();
    const advice = this.user ? "merge their files with survey report" : "if they are yours, give your name first";
    const texts = [`${found.taken} taken`];
    if (found.older) texts.push(`${found.older} older than yours`);
    if (found.others) texts.push(`${found.others} of ${this.user ? "other people" : "somebody with a name"} left out (${advice})`);
    if (found.lists) texts.push(`${found.lists} of another list left out`);
    if (found.strange) texts.push(`${found.strange} of stars that are not in this list`);
    return texts.join(", ");
  }
}
