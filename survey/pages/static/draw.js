/* The spectrum of a star: flux with its error band, bad pixels, the comparison, all visits, lines and bands. */

const MOST_VISITS = 8;

/** The index of the first wavelength at or above a value. */
function indexOf(wave, value) {
  let [low, high] = [0, wave.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (wave[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The range of flux in sight, without single extreme pixels. */
function fluxRange(lists, first, last, floor, ceiling) {
  const values = [];
  for (const list of lists) {
    if (!list) continue;
    for (let pixel = first; pixel < last; pixel += 1) if (list[pixel] !== null) values.push(list[pixel]);
  }
  if (!values.length) return [0, 1.4];
  const ordered = Float64Array.from(values).sort();
  const at = (share) => ordered[Math.min(Math.floor(share * ordered.length), ordered.length - 1)];
  const [low, high] = [at(0.004), at(0.996)];
  const margin = Math.max((high - low) * 0.08, 0.03);
  return [Math.min(low - margin, floor), Math.max(high + margin, ceiling)];
}

/** One plot of the spectrum in a window of wavelengths. */
class SpectrumPlot {
  constructor(host, model, { height, isMain, window: range, title }) {
    Object.assign(this, { host, model, height, isMain, range, title });
    this.plot = null;
    keepDrawn(host, () => this.build());
  }

  series() {
    const line = (name, width, alpha = 1) => ({ stroke: color(name, alpha), width, points: { show: false } });
    const visits = Array.from({ length: MOST_VISITS }, (_, number) => line(`series-${(number % 6) + 3}`, 1, 0.8));
    const none = { stroke: "transparent", width: 0, points: { show: false } };
    return [{}, line("series-2", this.isMain ? 1.2 : 1.4, 0.85), ...visits, none, none, line("ink", this.isMain ? 1 : 1.3),
      line("continuum", 1.4)];
  }

  build() {
    this.plot?.destroy();
    const isMain = this.isMain;
    const upper = 3 + MOST_VISITS;
    this.plot = new uPlot({
      width: this.host.clientWidth,
      height: this.height,
      padding: [this.isMain ? 16 : 18, this.isMain ? 16 : 8, 0, 0],
      legend: { show: false },
      cursor: {
        show: isMain,
        y: false,
        points: { show: false },
        drag: { x: isMain, y: false, setScale: false },
        bind: { dblclick: () => () => this.model.setWindow(null) },
      },
      scales: {
        x: { time: false, range: () => this.window() },
        y: { range: () => this.fluxRange() },
      },
      axes: [
        { ...axis(isMain ? "vacuum wavelength at rest (Å)" : undefined, isMain ? 24 : 22), ...(isMain ? {} : { labelSize: 0, space: 55 }) },
        { ...axis(isMain ? this.model.fluxLabel : undefined, isMain ? 40 : 34), ...(isMain ? {} : { labelSize: 0, space: 20 }) },
      ],
      bands: [{ series: [upper, upper - 1], fill: color("ink", 0.16) }],
      series: this.series(),
      hooks: {
        drawClear: [(plot) => this.drawLines(plot)],
        draw: [(plot) => this.drawMasks(plot), (plot) => this.drawImportance(plot)],
        setSelect: [(plot) => this.zoomTo(plot)],
        setCursor: [(plot) => this.model.onHover?.(plot.cursor.idx)],
      },
    }, this.model.data(), this.host);
  }

  window() {
    const wave = this.model.wave;
    return this.range ?? this.model.window ?? [wave[0], wave[wave.length - 1]];
  }

  fluxRange() {
    const [low, high] = this.window();
    const wave = this.model.wave;
    const [first, last] = [indexOf(wave, low), indexOf(wave, high)];
    const full = this.isMain && !this.model.window;
    const [floor, ceiling] = this.model.withContinuum ? [0, 0.2] : full ? [0.2, 1.25] : [0.85, 1.1];
    return fluxRange(this.model.drawn(), first, last, floor, ceiling);
  }

  zoomTo(plot) {
    if (plot.select.width < 4) return;
    const low = plot.posToVal(plot.select.left, "x");
    const high = plot.posToVal(plot.select.left + plot.select.width, "x");
    plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.model.setWindow([low, high]);
  }

  refresh() {
    this.plot?.setData(this.model.data());
  }

  /** Bands of molecules and lines, behind the spectrum, with their names. */
  drawLines(plot) {
    const { ctx: context, bbox } = plot;
    const ratio = uPlot.pxRatio;
    const [low, high] = this.window();
    context.save();
    context.font = `${10 * ratio}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "bottom";
    let lastEnd = -Infinity;
    const mark = (name, at) => {
      const half = context.measureText(name).width / 2;
      if (at - half < lastEnd + 4 * ratio || at + half > bbox.left + bbox.width + 10 * ratio) return;
      context.fillStyle = color("ink-soft");
      context.fillText(name, at, bbox.top - 2 * ratio);
      lastEnd = at + half;
    };
    const isNear = high - low < 900;
    for (const [name, from, to, isOfAir] of this.model.placed()) {
      if (to < low || from > high) continue;
      const [start, end] = [Math.max(from, low), Math.min(to, high)].map((value) => plot.valToPos(value, "x", true));
      if (to > from) {
        context.fillStyle = isOfAir ? color("ink-soft", 0.1) : color("band", 0.8);
        context.fillRect(start, bbox.top, Math.max(end - start, ratio), bbox.height);
      } else {
        context.strokeStyle = color("ink-soft", isNear ? 0.7 : 0.35);
        context.setLineDash([2 * ratio, 3 * ratio]);
        context.lineWidth = ratio;
        context.beginPath();
        context.moveTo(start, bbox.top);
        context.lineTo(start, bbox.top + bbox.height);
        context.stroke();
        context.setLineDash([]);
      }
      mark(name, (start + end) / 2);
    }
    context.restore();
  }

  /** How much each block of wavelengths matters, as a strip along the lower edge. */
  drawImportance(plot) {
    const blocks = this.isMain ? this.model.importance : null;
    if (!blocks) return;
    const { ctx: context, bbox } = plot;
    const [low, high] = this.window();
    const most = Math.max(...blocks.map(([, , share]) => share), 1e-9);
    const height = 7 * uPlot.pxRatio;
    context.save();
    for (const [from, to, share] of blocks) {
      if (to < low || from > high || share <= 0) continue;
      const [start, end] = [Math.max(from, low), Math.min(to, high)].map((value) => plot.valToPos(value, "x", true));
      context.fillStyle = color("continuum", 0.08 + 0.92 * (share / most));
      context.fillRect(start, bbox.top + bbox.height - height, end - start, height);
    }
    context.restore();
  }

  /** Bad pixels as blocks at the bottom. */
  drawMasks(plot) {
    const flux = this.model.spectrum?.flux;
    if (!flux) return;
    const { ctx: context, bbox } = plot;
    const wave = this.model.wave;
    const [low, high] = this.window();
    const [first, last] = [indexOf(wave, low), indexOf(wave, high)];
    context.save();
    context.fillStyle = color("bad");
    for (let pixel = first; pixel < last; pixel += 1) {
      if (flux[pixel] !== null) continue;
      const from = pixel;
      while (pixel + 1 < last && flux[pixel + 1] === null) pixel += 1;
      const start = plot.valToPos(wave[from], "x", true);
      const end = plot.valToPos(wave[Math.min(pixel + 1, wave.length - 1)], "x", true);
      const height = 6 * uPlot.pxRatio;
      const base = bbox.top + bbox.height - (this.isMain && this.model.importance ? 9 * uPlot.pxRatio : 0);
      context.fillRect(start, base - height, Math.max(end - start, 1.5 * uPlot.pxRatio), height);
    }
    context.restore();
  }
}

/** What the plots show: the spectrum of a candidate, its comparison, its visits, the choices of the reader. */
class SpectrumModel {
  constructor(wave, features) {
    Object.assign(this, { wave, features });
    this.window = null;
    this.choices = { comparison: true, visits: false, errors: true, continuum: false };
    this.empty = new Array(wave.length).fill(null);
    this.put({});
    this.plots = [];
  }

  put({ spectrum = null, comparison = null, visits = [], continuum = null, velocity = 0 }) {
    Object.assign(this, { spectrum, comparison, visits: visits.slice(0, MOST_VISITS), continuum, velocity });
    this.columns = null;
  }

  /** Lines and bands at their places; those of the Earth's air move with the velocity of the star. */
  placed() {
    const shift = 1 + this.velocity / 299792.458;
    return this.features.map(([name, from, to, isOfAir]) => (isOfAir ? [name, from / shift, to / shift, true] : [name, from, to, false]));
  }

  get withContinuum() {
    return this.choices.continuum && this.continuum !== null;
  }

  get fluxLabel() {
    return "flux / continuum";
  }

  times(list) {
    if (!this.withContinuum || !list) return list;
    return list.map((value, pixel) => (value === null ? null : value * this.continuum[pixel]));
  }

  data() {
    if (this.columns) return this.columns;
    const { flux, sigma } = this.spectrum ?? { flux: this.empty, sigma: null };
    const shift = (sign) => flux.map((value, pixel) => (value === null ? null : value + sign * sigma[pixel]));
    const withErrors = this.choices.errors && sigma;
    const visits = Array.from({ length: MOST_VISITS }, (_, number) =>
      (this.choices.visits && this.visits[number] ? this.times(this.visits[number].flux) : this.empty));
    this.columns = [
      this.wave,
      (this.choices.comparison && this.times(this.comparison?.flux)) || this.empty,
      ...visits,
      withErrors ? this.times(shift(-1)) : this.empty,
      withErrors ? this.times(shift(1)) : this.empty,
      this.times(flux),
      this.withContinuum ? this.continuum : this.empty,
    ];
    return this.columns;
  }

  /** The curves that decide the range of the flux. */
  drawn() {
    const columns = this.data();
    return [columns[1], columns[columns.length - 2], this.withContinuum ? columns[columns.length - 1] : null];
  }

  setWindow(window) {
    this.window = window;
    this.onWindow?.(window);
    this.plots.filter((plot) => plot.isMain).forEach((plot) => plot.refresh());
  }

  choose(name, value) {
    this.choices[name] = value;
    this.columns = null;
    this.refresh();
  }

  /** Draw the large plot now, the small ones in the next frame. */
  refresh() {
    this.columns = null;
    this.plots[0]?.refresh();
    cancelAnimationFrame(this.waiting);
    this.waiting = requestAnimationFrame(() => this.plots.slice(1).forEach((plot) => plot.refresh()));
  }
}
