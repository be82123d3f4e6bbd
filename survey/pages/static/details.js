/* The numbers of one star: labels with intervals and members, classes, flags with their meaning, visits, links. */

const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** An interval as a line, the value as a tick, and the answer of each member as a dot. */
function strip(low, high, value, members) {
  const known = [low, high, value, ...members].filter((number) => typeof number === "number");
  if (typeof value !== "number" || known.length < 2) return element("span");
  const [least, most] = [Math.min(...known), Math.max(...known)];
  const span = most - least || 1;
  const at = (number) => 6 + ((number - least) / span) * 88;
  const made = svg("svg", { viewBox: "0 0 100 14", class: "strip", "aria-hidden": "true" });
  if (typeof low === "number" && typeof high === "number") made.append(svg("line", { x1: at(low), x2: at(high), y1: 7, y2: 7, class: "strip-interval" }));
  members.filter((number) => typeof number === "number").forEach((number) => made.append(svg("circle", { cx: at(number), cy: 7, r: 2.4, class: "strip-member" })));
  made.append(svg("line", { x1: at(value), x2: at(value), y1: 1.5, y2: 12.5, class: "strip-value" }));
  return made;
}

/** Links by position. Nothing is loaded until a reader follows one. */
function positionLinks(ra, dec) {
  if (typeof ra !== "number" || typeof dec !== "number") return [];
  const [at, position] = [`${ra.toFixed(6)}`, `${ra.toFixed(6)}%20${dec >= 0 ? "%2B" : ""}${dec.toFixed(6)}`];
  const places = [
    ["SIMBAD", `https://simbad.cds.unistra.fr/simbad/sim-coo?Coord=${position}&Radius=5&Radius.unit=arcsec`],
    ["Gaia DR3", `https://vizier.cds.unistra.fr/viz-bin/VizieR-4?-source=I/355/gaiadr3&-c=${position}&-c.rs=5`],
    ["Legacy Survey", `https://www.legacysurvey.org/viewer?ra=${at}&dec=${dec.toFixed(6)}&layer=ls-dr10&zoom=15&mark=${at},${dec.toFixed(6)}`],
    ["Aladin", `https://aladin.cds.unistra.fr/AladinLite/?target=${position}&fov=0.05`],
  ];
  return places.map(([text, href]) => element("a", { text, href, target: "_blank", rel: "noopener noreferrer" }));
}

/** Renders the details of candidates into their places on the page. */
class Details {
  constructor(about, columns) {
    Object.assign(this, { about, columns });
  }

  value(name, row) {
    return this.columns[name]?.[row] ?? null;
  }

  show(row) {
    byId("star-links").replaceChildren(...positionLinks(this.value("ra", row), this.value("dec", row)));
    byId("star-facts").replaceChildren(...this.facts(row));
    byId("labels").replaceChildren(...this.about.labels.map((label) => this.labelRow(label, row)));
    byId("flags").replaceChildren(...this.flags(row));
    byId("more").replaceChildren(...this.more(row));
    this.showExplanation(row);
  }

  labelRow({ name, text, unit, digits, about }, row) {
    const members = this.about.members.map((_, number) => this.value(`m${number}_${name}`, row));
    const [value, error] = [this.value(name, row), this.value(`${name}_err`, row)];
    const [low, high] = [this.value(`${name}_low`, row), this.value(`${name}_high`, row)];
    const interval = low === null ? "" : `${show(low, digits)} to ${show(high, digits)}`;
    const answered = members.filter((number) => number !== null).map((number) => show(number, digits)).join(", ");
    const title = [about, answered && `members: ${answered}`, interval && `${this.about.interval}: ${interval}`].filter(Boolean).join("\n");
    return element("tr", { title },
      element("th", { scope: "row", text }),
      element("td", { class: "number" }, `${show(value, digits)}${error === null ? "" : ` ± ${show(error, digits)}`}`,
        element("span", { class: "interval soft", text: interval || unit })),
      element("td", {}, strip(low, high, value, members)));
  }

  facts(row) {
    const fact = (name, text) => (text === null || text === "–" ? [] : [element("dt", { text: name }), element("dd", { text })]);
    const position = this.value("ra", row) === null ? null : `${show(this.value("ra", row), 5)}, ${show(this.value("dec", row), 5)}`;
    const bands = ["u", "g", "r", "i", "z"].filter((band) => this.value(`snr_${band}`, row) !== null)
      .map((band) => `${band} ${show(this.value(`snr_${band}`, row), 0)}`).join("  ");
    const bright = this.about.magnitudes.filter((name) => this.value(name, row) !== null)
      .map((name) => `${name.replace("mag_", "")} ${show(this.value(name, row), 2)}`).join("  ");
    const purity = this.value("purity_to_here", row);
    return [
      ...fact("RA, Dec", position),
      ...fact("S/N", `${show(this.value("snr_total", row), 0)}${bands ? `  (${bands})` : ""}`),
      ...fact("mag", bright || null),
      ...fact("visits", show(this.value("n_visits", row), 0)),
      ...fact("purity to here", purity === null ? null : `${show(purity)} [${show(this.value("purity_to_here_low", row))}, ${show(this.value("purity_to_here_high", row))}]`),
      ...fact("not listed", this.value("not_listed", row)),
    ];
  }

  flags(row) {
    const shown = [];
    for (const { value, name, severity, description } of this.about.flags) {
      const bits = this.value(`flag_${severity}`, row) ?? 0;
      if (!(bits & value)) continue;
      shown.push(element("li", { class: `flag flag-${severity}` },
        element("strong", { text: name.toLowerCase().replaceAll("_", " ") }), element("span", { text: description })));
    }
    return shown.length ? shown : [element("li", { class: "soft", text: "no flag" })];
  }

  more(row) {
    const shown = [];
    for (const { name, text, digits, about } of this.about.more) {
      const value = this.value(name, row);
      if (value === null || value === "") continue;
      shown.push(element("dt", { text, title: about }), element("dd", { text: show(value, digits) }));
    }
    return shown;
  }

  /** Which bands the answer of the networks rests on, if the page has an explanation. */
  showExplanation() {
    const found = this.about.explanation;
    byId("explanation").hidden = !found;
    if (!found) return;
    byId("explanation-text").textContent = `${found.text}; the strip under the spectrum shows all blocks`;
    byId("explanation-rows").replaceChildren(...found.main.map(([range, share, features]) => element("tr", {},
      element("td", { text: range }), element("td", { class: "number", text: `${show(100 * share, 0)} %` }), element("td", { class: "soft", text: features }))));
  }
}
