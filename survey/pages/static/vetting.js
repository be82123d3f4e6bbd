/* The vetting page: candidates one after the other, by mouse, finger or keyboard. */

class Vetting {
  constructor(about, columns, wave) {
    Object.assign(this, { about, columns, wave });
    this.details = new Details(about, columns);
    this.book = new VerdictBook(about.listId, about.list, columns.star);
    this.readers = Object.fromEntries(Object.entries({ best: 3, comparison: 3, visits: 3 })
      .filter(([kind]) => hasData(`${kind}-about`)).map(([kind, kept]) => [kind, new SpectrumReader(kind, kept)]));
    this.model = new SpectrumModel(wave, about.features);
    this.model.importance = about.explanation?.blocks ?? null;
    this.seen = "all";
    this.filter = "";
    this.preset = 0;
    this.entry = -1;
    this.times = [];
    this.makePlots();
    this.makeTable();
    this.makeControls();
    this.book.listeners.push(() => this.showState());
  }

  /* entries: a candidate in the order of the work; a second look is an entry of its own */

  row(entry) {
    return this.about.order[entry][0];
  }

  look(entry) {
    return this.about.order[entry][1];
  }

  star(entry) {
    return this.columns.star[this.row(entry)];
  }

  record(entry) {
    return this.book.get(this.star(entry), this.look(entry));
  }

  makeTable() {
    const value = (name) => (entry) => (name === "#" ? entry + 1 : (this.columns[name]?.[this.row(entry)] ?? null));
    const columns = this.about.table.map(({ name, title, digits, width, falls, about }) => ({
      title, width, about, falls, numeric: digits !== null, value: value(name), text: (entry) => show(value(name)(entry), digits ?? 0),
    }));
    const mark = { accept: "✓", reject: "✗", unsure: "?" };
    columns.push({
      title: "✓",
      about: "verdict",
      width: "34px",
      value: (entry) => this.record(entry)?.verdict || null,
      text: (entry) => {
        const record = this.record(entry);
        if (!(record?.verdict || record?.quality || record?.note)) return "";
        return `${mark[record.verdict] ?? "·"}${record.quality ?? ""}`;
      },
      class: (entry) => `verdict-${this.record(entry)?.verdict || "none"}`,
    });
    this.entries = this.about.order.map((_, entry) => entry);
    this.table = new LongTable(byId("list"), {
      label: "candidates",
      columns,
      rows: this.entries,
      onSelect: (entry) => {
        document.body.classList.remove("shows-list");
        this.open(entry);
      },
    });
  }

  makePlots() {
    if (!this.readers.best) {
      byId("spectrum").replaceChildren(element("p", { class: "note", text: `No spectra: ${this.about.why}.` }));
      byId("panels").remove();
      return;
    }
    const tall = Math.min(Math.max(window.innerHeight - 650, 212), 420);
    const main = new SpectrumPlot(byId("spectrum"), this.model, { height: tall, isMain: true });
    this.model.plots.push(main);
    this.model.onWindow = (range) => this.showPreset(range);
    this.model.onHover = (pixel) => this.showPixel(pixel);
    for (const [name, low, high] of this.about.panels) {
      const host = element("div", { class: "panel-plot" });
      const button = element("button", { type: "button", class: "panel", title: `show ${name} above`, "aria-label": `show ${name} in the large plot`, on: { click: () => this.model.setWindow([low, high]) } },
        element("span", { class: "panel-title", text: name }), host);
      byId("panels").append(button);
      this.model.plots.push(new SpectrumPlot(host, this.model, { height: window.innerHeight > 960 ? 124 : 104, isMain: false, window: [low, high] }));
    }
    byId("presets").replaceChildren(...this.about.presets.map(([name, low, high], number) =>
      element("button", { type: "button", text: name, "aria-pressed": number === 0, on: { click: () => this.zoom(number, low, high) } })));
    for (const name of ["comparison", "visits", "errors", "continuum"]) {
      const button = byId(`choice-${name}`);
      button.addEventListener("click", () => this.toggle(name));
    }
  }

  toggle(name) {
    const button = byId(`choice-${name}`);
    if (!this.readers.best || button.disabled) return;
    const value = !this.model.choices[name];
    button.setAttribute("aria-pressed", value);
    this.model.choose(name, value);
    this.showLegend();
  }

  zoom(number) {
    if (!this.readers.best) return;
    const [, low, high] = this.about.presets[number];
    this.preset = number;
    this.model.setWindow(low === null ? null : [low, high]);
  }

  showPreset(range) {
    [...byId("presets").children].forEach((button, number) => {
      const [, low, high] = this.about.presets[number];
      const isThis = range === null ? low === null : low === range[0] && high === range[1];
      button.setAttribute("aria-pressed", isThis);
      if (isThis) this.preset = number;
    });
  }

  showPixel(pixel) {
    const found = typeof pixel === "number" ? this.model.spectrum : null;
    const flux = found?.flux[pixel];
    byId("pixel").textContent = found
      ? `${this.wave[pixel].toFixed(1)} Å  ${flux === null ? "bad pixel" : `${show(flux, 3)} ± ${show(found.sigma[pixel], 3)}`}`
      : "";
  }

  makeControls() {
    for (const verdict of VERDICTS) byId(`verdict-${verdict}`).addEventListener("click", () => this.judge({ verdict }));
    for (const quality of [1, 2, 3, 4]) byId(`quality-${quality}`).addEventListener("click", () => this.judge({ quality }));
    byId("note").addEventListener("input", () => {
      clearTimeout(this.noteWaits);
      this.noteWaits = setTimeout(() => this.keepNote(), 400);
    });
    byId("note").addEventListener("blur", () => this.keepNote());
    byId("find").addEventListener("input", (event) => { this.filter = event.target.value; this.applyFilter(); });
    for (const button of document.querySelectorAll("[data-seen]")) {
      button.addEventListener("click", () => { this.seen = button.dataset.seen; this.applyFilter(); });
    }
    byId("previous").addEventListener("click", () => this.step(-1));
    byId("next").addEventListener("click", () => this.step(1));
    byId("user").value = this.book.user;
    byId("user").addEventListener("change", (event) => {
      this.keepNote();
      this.book.setUser(event.target.value);
      this.showEntry();
    });
    const name = () => `verdicts-${this.about.list}-${this.book.user || "nobody"}`.replaceAll(/[^\w-]+/g, "_");
    byId("save-csv").addEventListener("click", () => { this.keepNote(); save(`${name()}.csv`, this.book.toCsv(), "text/csv"); });
    byId("save-json").addEventListener("click", () => { this.keepNote(); save(`${name()}.json`, this.book.toJson(), "application/json"); });
    byId("load").addEventListener("click", () => byId("load-file").click());
    byId("load-file").addEventListener("change", (event) => this.loadFile(event.target));
    byId("advance").addEventListener("change", (event) => memory.set("survey-advance", event.target.checked ? "yes" : "no"));
    byId("advance").checked = memory.get("survey-advance") === "yes";
    byId("help-button").addEventListener("click", () => this.help());
    byId("list-button").addEventListener("click", () => document.body.classList.toggle("shows-list"));
    document.addEventListener("keydown", (event) => this.key(event));
    window.addEventListener("pagehide", () => this.keepNote());
  }

  async loadFile(input) {
    const [file] = input.files;
    input.value = "";
    if (!file) return;
    try {
      this.say(`${file.name}: ${this.book.load(await file.text())}`);
    } catch (error) {
      this.say(`${file.name}: cannot be read: ${error.message}`);
    }
    this.applyFilter();
    this.showEntry();
  }

  say(text) {
    byId("message").textContent = text;
    clearTimeout(this.saying);
    this.saying = setTimeout(() => { byId("message").textContent = ""; }, 9000);
  }

  help() {
    const dialog = byId("help");
    if (dialog.open) dialog.close();
    else dialog.showModal();
  }

  /* which entries are listed, and which one is open */

  applyFilter() {
    const found = readFilter(this.filter, this.columns, (row) => this.searched(row));
    const entries = this.entries.filter((entry) => {
      const isSeen = Boolean(this.record(entry)?.verdict);
      return (this.seen === "all" || (this.seen === "seen") === isSeen) && found.fits(this.row(entry));
    });
    this.table.show(entries);
    for (const button of document.querySelectorAll("[data-seen]")) button.setAttribute("aria-pressed", button.dataset.seen === this.seen);
    byId("found").textContent = found.problem || `${entries.length.toLocaleString("en")} listed`;
    this.table.select(this.entry);
  }

  /** What the words of a filter are looked for in: the name of a star, its note, its flags. */
  searched(row) {
    const star = this.columns.star[row];
    const note = this.book.get(star, 1)?.note ?? "";
    const bits = ["warn", "bad", "info"].map((severity) => this.columns[`flag_${severity}`]?.[row] ?? 0);
    const flags = this.about.flags.filter(({ value, severity }) => bits[["warn", "bad", "info"].indexOf(severity)] & value);
    return [star, note, this.columns.obsid?.[row] ?? "", ...flags.map(({ name }) => name)].join(" ");
  }

  step(by) {
    const shown = this.table.shown;
    if (!shown.length) return;
    let place = shown.indexOf(this.entry);
    if (place < 0) place = shown.findIndex((entry) => entry > this.entry) - (by > 0 ? 1 : 0);
    this.open(shown[Math.min(Math.max(place + by, 0), shown.length - 1)]);
  }

  async open(entry) {
    if (entry === undefined || entry < 0) return;
    this.keepNote();
    const begun = performance.now();
    this.entry = entry;
    this.showEntry();
    if (this.readers.best) {
      const drawn = await this.readSpectra(this.row(entry));
      if (this.entry !== entry) return; // a later one was asked for meanwhile
      this.model.put({ ...drawn, velocity: this.columns.velocity?.[this.row(entry)] ?? 0 });
      this.model.refresh();
    }
    this.showLegend();
    this.showPlanes();
    this.times.push(performance.now() - begun);
    memory.set(`survey-place:${this.about.listId}`, String(entry));
    this.prepare(entry);
    document.documentElement.dataset.entry = entry;
  }

  async readSpectra(row) {
    const { best, comparison, visits, continuum } = this.about.spectra;
    const [spectrum, normal, ...others] = await Promise.all([
      this.readers.best.get(best[row]),
      this.readers.comparison?.get(comparison[row]) ?? null,
      ...(visits[row] ?? []).slice(0, MOST_VISITS).map(({ at }) => this.readers.visits.get(at)),
    ]);
    return { spectrum, comparison: normal, visits: others, continuum: continuumOf(continuum?.[row], this.wave.length) };
  }

  prepare(entry) {
    if (!this.readers.best) return;
    const place = this.table.shown.indexOf(entry);
    for (const near of [this.table.shown[place + 1], this.table.shown[place + 2]]) {
      if (near === undefined) continue;
      const row = this.row(near);
      this.readers.best.prepare(this.about.spectra.best[row]);
      this.readers.comparison?.prepare(this.about.spectra.comparison[row]);
    }
  }

  showEntry() {
    const row = this.row(this.entry);
    byId("star-name").textContent = this.star(this.entry);
    byId("star-place").textContent = `${this.entry + 1} of ${this.entries.length}`;
    byId("star-kind").replaceChildren(...this.badges(row));
    this.details.show(row);
    this.table.select(this.entry);
    this.showState();
  }

  badges(row) {
    const text = (name) => this.columns[name]?.[row];
    const known = this.about.badges.map(({ name, title, digits }) => [title, text(name), digits])
      .filter(([, value]) => value !== null && value !== undefined);
    return known.map(([title, value, digits]) => element("span", { class: "badge", text: `${title} ${show(value, digits ?? 0)}` }));
  }

  showState() {
    const record = this.entry >= 0 ? this.record(this.entry) : null;
    for (const verdict of VERDICTS) byId(`verdict-${verdict}`).setAttribute("aria-pressed", record?.verdict === verdict);
    for (const quality of [1, 2, 3, 4]) byId(`quality-${quality}`).setAttribute("aria-pressed", record?.quality === quality);
    if (document.activeElement !== byId("note")) byId("note").value = record?.note ?? "";
    if (document.activeElement !== byId("user")) byId("user").value = this.book.user;
    const counts = this.book.counts();
    byId("progress").max = this.entries.length;
    byId("progress").value = counts.seen;
    byId("counts").textContent = `${counts.seen} of ${this.entries.length}: ✓ ${counts.accept}  ✗ ${counts.reject}  ? ${counts.unsure}`;
    byId("not-kept").hidden = memory.works;
    this.table.draw();
  }

  showLegend() {
    const { comparison, visits, spectra } = this.about;
    const row = this.row(this.entry);
    const normal = spectra?.comparison?.[row] >= 0 ? comparison[spectra.comparison[row]] : null;
    const others = spectra?.visits?.[row] ?? [];
    byId("choice-comparison").disabled = !normal;
    byId("choice-visits").disabled = !others.length;
    byId("choice-continuum").disabled = !this.model.continuum;
    const lines = [element("span", { class: "line line-ink", text: "this star" })];
    if (normal && this.model.choices.comparison) lines.push(element("span", { class: "line line-2", text: `normal star ${normal}` }));
    if (!normal && this.readers.best) lines.push(element("span", { class: "soft", text: "no normal star is like it" }));
    if (this.model.choices.visits) {
      others.slice(0, MOST_VISITS).forEach(({ text }, number) => lines.push(element("span", { class: `line line-${(number % 6) + 3}`, text })));
    }
    byId("legend").replaceChildren(...lines);
  }

  showPlanes() {
    if (!this.group) return;
    const row = this.row(this.entry);
    const value = (name) => this.columns[name]?.[row] ?? null;
    for (const plane of this.group.planes) {
      const [x, y] = [plane.about.x.column, plane.about.y.column];
      plane.mark = [{ x: value(x), y: value(y), ex: value(`${x}_err`), ey: value(`${y}_err`), color: "accent" }];
      plane.draw();
    }
  }

  async startPlanes() {
    if (!hasData("stars-about")) return;
    this.group = new StarGroup(await unpackStars("stars"));
    const overlays = [{ name: "candidates", color: "series-3", columns: this.columns }];
    for (const about of this.about.planes) {
      const host = element("figure", { class: "plane-host" });
      byId("planes").append(host);
      new Plane(host, this.group, { ...about, tallest: 250 }, overlays); // eslint-disable-line no-new
    }
  }

  /* verdicts */

  judge(part) {
    if (this.entry < 0) return;
    this.keepNote();
    const entry = this.entry;
    this.book.change(this.star(entry), this.look(entry), part);
    if (part.verdict && byId("advance").checked && this.record(entry)?.verdict) this.step(1);
  }

  keepNote() {
    clearTimeout(this.noteWaits);
    if (this.entry < 0) return;
    const note = byId("note").value.slice(0, 2000);
    if (note !== (this.record(this.entry)?.note ?? "")) this.book.change(this.star(this.entry), this.look(this.entry), { note });
  }

  key(event) {
    const field = event.target.closest("input, textarea, select");
    if (event.key === "Escape") {
      if (field) field.blur();
      document.body.classList.remove("shows-list");
      return;
    }
    if (field?.id === "note" && event.key === "Enter") { field.blur(); event.preventDefault(); return; }
    if ((field && field.type !== "checkbox") || event.ctrlKey || event.metaKey || event.altKey) return;
    const presets = this.about.presets.length;
    const actions = {
      j: () => this.step(1), ArrowDown: () => this.step(1), k: () => this.step(-1), ArrowUp: () => this.step(-1),
      a: () => this.judge({ verdict: "accept" }), r: () => this.judge({ verdict: "reject" }), u: () => this.judge({ verdict: "unsure" }),
      1: () => this.judge({ quality: 1 }), 2: () => this.judge({ quality: 2 }), 3: () => this.judge({ quality: 3 }), 4: () => this.judge({ quality: 4 }),
      n: () => byId("note").focus(), z: () => this.zoom((this.preset + 1) % presets), Z: () => this.zoom((this.preset + presets - 1) % presets),
      0: () => this.zoom(0), c: () => this.toggle("comparison"), v: () => this.toggle("visits"), e: () => this.toggle("errors"),
      o: () => this.toggle("continuum"), m: () => byId("advance").click(), s: () => byId("save-csv").click(),
      f: () => { this.seen = { all: "unseen", unseen: "seen", seen: "all" }[this.seen]; this.applyFilter(); },
      "/": () => { document.body.classList.add("shows-list"); byId("find").focus(); }, "?": () => this.help(),
    };
    const action = actions[event.key];
    if (!action || (byId("help").open && event.key !== "?")) return;
    event.preventDefault();
    action();
  }
}

document.addEventListener("DOMContentLoaded", async () => {
  theme.start();
  const [columns, wave] = await Promise.all([unpackJson("candidates"), hasData("wave") ? unpack("wave") : null]);
  const about = { ...readJson("vetting"), ...(await unpackJson("about")) };
  const page = new Vetting(about, columns, wave ? Array.from(new Float32Array(wave.buffer)) : []);
  window.vetting = page;
  await page.startPlanes();
  page.applyFilter();
  await page.open(Math.min(Number(memory.get(`survey-place:${about.listId}`) ?? 0) || 0, page.entries.length - 1));
  document.documentElement.dataset.ready = "true";
});
