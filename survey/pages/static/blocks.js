/* The blocks of a report: curves, planes, long tables, pictures that open. */

/** Tables of a page whose rows are in packed data. */
async function startTable(host) {
  const about = readJson(host.dataset.source);
  const columns = await unpackJson(`${host.dataset.source}-rows`);
  const names = about.columns.map((column) => column.name);
  const count = columns[names[0]].length;
  const rows = Array.from({ length: count }, (_, row) => row);
  const filter = element("input", { type: "search", placeholder: "find: a name, or FeH<-2 snr_best>30", "aria-label": "find rows" });
  const state = element("span", { class: "soft", "aria-live": "polite" });
  const place = element("div", { class: "long-place" });
  host.replaceChildren(element("div", { class: "long-tools" }, filter, state), place);
  const text = (row) => names.map((name) => columns[name][row] ?? "").join(" ");
  const table = new LongTable(place, {
    label: about.title,
    rows,
    columns: about.columns.map((column) => ({
      title: column.title,
      about: column.about,
      width: column.width,
      numeric: column.numeric,
      falls: column.falls,
      value: (row) => columns[column.name][row],
      text: (row) => {
        const value = columns[column.name][row];
        return column.digits === null ? significant(value) : show(value, column.digits);
      },
    })),
  });
  const apply = () => {
    const found = readFilter(filter.value, columns, text);
    const fitting = rows.filter(found.fits);
    table.show(fitting);
    state.textContent = found.problem || `${fitting.length.toLocaleString("en")} of ${count.toLocaleString("en")}`;
  };
  filter.addEventListener("input", apply);
  apply();
}

async function startPlanes(host) {
  const about = readJson(host.dataset.source);
  const stars = await unpackStars(about.stars);
  const group = new StarGroup(stars);
  const state = element("span", { class: "soft", "aria-live": "polite" });
  const clear = element("button", { type: "button", text: "clear", hidden: true, on: { click: () => group.select(null) } });
  group.listeners.push((count) => {
    state.textContent = count ? `${count.toLocaleString("en")} stars chosen` : "";
    clear.hidden = !group.selected;
  });
  const key = element("div", { class: "plane-key" },
    ...about.overlays.map(({ name, color: shade }) => element("span", { class: `key key-${shade}`, text: name })),
    element("span", { class: "soft", text: "drag: zoom · double click: all · shift and drag: choose stars in every plane" }), state, clear);
  const grid = element("div", { class: "plane-grid" });
  host.replaceChildren(key, grid);
  for (const one of about.planes) {
    const place = element("figure", { class: "plane-host" });
    grid.append(place);
    new Plane(place, group, one, about.overlays); // eslint-disable-line no-new
  }
  host.starGroup = group;
}

function startPictures() {
  const shown = element("dialog", { class: "picture-dialog", "aria-label": "picture" });
  document.body.append(shown);
  shown.addEventListener("click", () => shown.close());
  for (const button of document.querySelectorAll("button.picture")) {
    button.addEventListener("click", () => {
      const image = button.querySelector("img");
      shown.replaceChildren(element("img", { src: image.src, alt: image.alt }));
      shown.showModal();
    });
  }
}

async function startBlocks() {
  theme.start();
  startPictures();
  for (const host of document.querySelectorAll("[data-block=curves]")) drawCurves(host, readJson(host.dataset.source));
  const later = [...document.querySelectorAll("[data-block=table]")].map(startTable);
  later.push(...[...document.querySelectorAll("[data-block=planes]")].map(startPlanes));
  await Promise.all(later);
  document.documentElement.dataset.ready = "true";
}

document.addEventListener("DOMContentLoaded", () => {
  if (!byId("data-vetting")) startBlocks();
});
