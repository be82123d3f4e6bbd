/*
 * Planes of stars: density where there are many, points where there are few. All planes of a group show the
 * same stars; a selection in one is seen in all.
 */

const MISSING = 65535;
const MOST_POINTS = 4000;
const CELL = 2;
const MARGIN = { left: 52, right: 10, top: 10, bottom: 40 };

/** Columns of stars from packed data: 16 bits a value, low bytes first. */
async function unpackStars(id) {
  const about = readJson(`${id}-about`);
  const bytes = await unpack(id);
  const columns = {};
  let at = 0;
  for (const column of about.columns) {
    const low = bytes.subarray(at, at + about.rows);
    const high = bytes.subarray(at + about.rows, at + 2 * about.rows);
    const values = new Float32Array(about.rows);
    for (let row = 0, level = 0; row < about.rows; row += 1) {
      const change = low[row] | (high[row] << 8);
      level = (level + ((change >>> 1) ^ -(change & 1))) & 0xffff;
      values[row] = level === MISSING ? NaN : column.low + level * column.step;
    }
    columns[column.name] = values;
    at += 2 * about.rows;
  }
  return { about, columns, rows: about.rows };
}

/** Stars that several planes show. `selected` is a mask, or null if none are chosen. */
class StarGroup {
  constructor(stars) {
    Object.assign(this, stars);
    this.selected = null;
    this.planes = [];
    this.listeners = [];
  }

  select(mask) {
    this.selected = mask;
    let count = 0;
    if (mask) for (let row = 0; row < mask.length; row += 1) count += mask[row];
    this.count = count;
    this.planes.forEach((plane) => plane.draw());
    this.listeners.forEach((run) => run(count));
  }
}

/** One plane. `about`: {title, x: {column, text, falls, low, high}, y: ...}; `overlays`: points drawn on top. */
class Plane {
  constructor(host, group, about, overlays = []) {
    Object.assign(this, { host, group, about, overlays });
    this.mark = null;
    this.canvas = element("canvas", {
      class: "plane",
      tabindex: 0,
      role: "img",
      "aria-label": `${about.title}: ${about.y.text} against ${about.x.text}. Drag to zoom, shift and drag to choose, plus, minus and arrows move, 0 shows all.`,
    });
    this.tip = element("div", { class: "tip", hidden: true });
    const button = (text, title, run) => element("button", { type: "button", text, title, "aria-label": title, on: { click: run } });
    this.note = element("span", { class: "plane-note" });
    this.tools = element("div", { class: "plane-tools" },
      element("span", { class: "plane-title", text: about.title }),
      this.note,
      button("+", "zoom in", () => this.zoom(0.6)),
      button("−", "zoom out", () => this.zoom(1 / 0.6)),
      button("⤢", "show all", () => this.reset()));
    host.replaceChildren(this.tools, element("div", { class: "plane-area" }, this.canvas, this.tip));
    this.reset(false);
    group.planes.push(this);
    this.listen();
    keepDrawn(host, () => this.draw());
  }

  get size() {
    const width = this.host.clientWidth;
    return { width, height: Math.round(Math.min(Math.max(width * 0.78, 220), this.about.tallest ?? 360)) };
  }

  reset(draw = true) {
    const { x, y } = this.about;
    this.view = { x0: x.low, x1: x.high, y0: y.low, y1: y.high };
    if (draw) this.draw();
  }

  /** Change of data to pixels: pixel = start + (value - low) * scale, for both axes. */
  scales() {
    const { width, height } = this.size;
    const { x, y } = this.about;
    const view = this.view;
    const inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
    const scaleX = (inner.width / (view.x1 - view.x0)) * (x.falls ? -1 : 1);
    const scaleY = (inner.height / (view.y1 - view.y0)) * (y.falls ? 1 : -1);
    return {
      inner,
      width,
      height,
      px: (value) => (x.falls ? width - MARGIN.right : MARGIN.left) + (value - view.x0) * scaleX,
      py: (value) => (y.falls ? MARGIN.top : MARGIN.top + inner.height) + (value - view.y0) * scaleY,
      vx: (pixel) => view.x0 + (pixel - (x.falls ? width - MARGIN.right : MARGIN.left)) / scaleX,
      vy: (pixel) => view.y0 + (pixel - (y.falls ? MARGIN.top : MARGIN.top + inner.height)) / scaleY,
    };
  }

  draw() {
    const scales = this.scales();
    if (scales.inner.width < 40) return;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = scales.width * ratio;
    this.canvas.height = scales.height * ratio;
    this.canvas.style.height = `${scales.height}px`;
    const context = this.canvas.getContext("2d");
    context.scale(ratio, ratio);
    this.drawAxes(context, scales);
    context.save();
    context.beginPath();
    context.rect(MARGIN.left, MARGIN.top, scales.inner.width, scales.inner.height);
    context.clip();
    this.drawStars(context, scales);
    this.overlays.forEach((overlay) => this.drawOverlay(context, scales, overlay));
    if (this.mark) this.drawMark(context, scales);
    if (this.box) this.drawBox(context);
    context.restore();
  }

  drawAxes(context, scales) {
    const { x, y } = this.about;
    const { inner, width } = scales;
    context.font = "11px system-ui, sans-serif";
    context.lineWidth = 1;
    const across = ticks(this.view.x0, this.view.x1, inner.width / 70);
    const upwards = ticks(this.view.y0, this.view.y1, inner.height / 42);
    context.strokeStyle = color("grid");
    context.fillStyle = color("ink-soft");
    context.textAlign = "center";
    context.textBaseline = "top";
    for (const value of across.values) {
      const at = Math.round(scales.px(value)) + 0.5;
      context.beginPath();
      context.moveTo(at, MARGIN.top);
      context.lineTo(at, MARGIN.top + inner.height);
      context.stroke();
      context.fillText(show(value, across.digits), at, MARGIN.top + inner.height + 5);
    }
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const value of upwards.values) {
      const at = Math.round(scales.py(value)) + 0.5;
      context.beginPath();
      context.moveTo(MARGIN.left, at);
      context.lineTo(width - MARGIN.right, at);
      context.stroke();
      context.fillText(show(value, upwards.digits), MARGIN.left - 5, at);
    }
    context.fillStyle = color("ink");
    context.font = "12px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "bottom";
    context.fillText(x.text, MARGIN.left + inner.width / 2, scales.height - 2);
    context.save();
    context.translate(12, MARGIN.top + inner.height / 2);
    context.rotate(-Math.PI / 2);
    context.textBaseline = "middle";
    context.fillText(y.text, 0, 0);
    context.restore();
  }

  /** The stars in sight, counted in cells; as points if they are few. */
  drawStars(context, scales) {
    const { x: { column: nameX }, y: { column: nameY } } = this.about;
    const valuesX = this.group.columns[nameX];
    const valuesY = this.group.columns[nameY];
    const chosen = this.group.selected;
    const columns = Math.ceil(scales.inner.width / CELL);
    const rows = Math.ceil(scales.inner.height / CELL);
    const all = new Uint32Array(columns * rows);
    const some = chosen ? new Uint32Array(columns * rows) : null;
    const [baseX, baseY] = [scales.px(0) - MARGIN.left, scales.py(0) - MARGIN.top];
    const stepX = (scales.px(1) - scales.px(0)) / CELL;
    const stepY = (scales.py(1) - scales.py(0)) / CELL;
    let count = 0;
    for (let star = 0; star < valuesX.length; star += 1) {
      const across = baseX / CELL + valuesX[star] * stepX;
      const down = baseY / CELL + valuesY[star] * stepY;
      if (!(across >= 0 && across < columns && down >= 0 && down < rows)) continue;
      const cell = (down | 0) * columns + (across | 0);
      all[cell] += 1;
      count += 1;
      if (some && chosen[star]) some[cell] += 1;
    }
    this.cells = { all, columns, rows };
    this.points = count <= MOST_POINTS;
    const of = this.group.about.of;
    const part = of > this.group.rows ? " of a sample" : "";
    this.note.textContent = `${count.toLocaleString("en")} stars${part} in sight${this.points ? "" : ", as density"}`;
    if (!this.points) {
      context.imageSmoothingEnabled = false;
      this.paint(context, all, columns, rows, rgb("few"), rgb("many"), 1);
      if (some) this.paint(context, some, columns, rows, rgb("accent"), rgb("accent"), 0.9);
      return;
    }
    this.near = [];
    for (let star = 0; star < valuesX.length; star += 1) {
      const across = scales.px(valuesX[star]);
      const down = scales.py(valuesY[star]);
      const inside = across >= MARGIN.left && across <= scales.width - MARGIN.right && down >= MARGIN.top &&
        down <= MARGIN.top + scales.inner.height;
      if (inside) this.near.push([across, down, star]);
    }
    const size = this.near.length > 800 ? 1.6 : 2.4;
    for (const isChosen of [false, true]) {
      context.fillStyle = isChosen ? color("accent") : color("point", this.near.length > 800 ? 0.5 : 0.7);
      for (const [across, down, star] of this.near) {
        if (Boolean(chosen?.[star]) !== isChosen) continue;
        context.beginPath();
        context.arc(across, down, isChosen ? size + 0.6 : size, 0, 7);
        context.fill();
      }
    }
  }

  paint(context, counts, columns, rows, from, to, weight) {
    let most = 1;
    for (let cell = 0; cell < counts.length; cell += 1) if (counts[cell] > most) most = counts[cell];
    const image = new ImageData(columns, rows);
    const top = Math.log(most + 1);
    for (let cell = 0; cell < counts.length; cell += 1) {
      if (!counts[cell]) continue;
      const share = Math.log(counts[cell] + 1) / top;
      for (let part = 0; part < 3; part += 1) {
        image.data[cell * 4 + part] = from[part] + (to[part] - from[part]) * share;
      }
      image.data[cell * 4 + 3] = 255 * weight * (0.35 + 0.65 * share);
    }
    const small = new OffscreenCanvas(columns, rows);
    small.getContext("2d").putImageData(image, 0, 0);
    context.drawImage(small, MARGIN.left, MARGIN.top, columns * CELL, rows * CELL);
  }

  drawOverlay(context, scales, overlay) {
    const valuesX = overlay.columns[this.about.x.column];
    const valuesY = overlay.columns[this.about.y.column];
    if (!valuesX || !valuesY) return;
    const size = valuesX.length > 1500 ? 1.6 : valuesX.length > 300 ? 2.2 : 3;
    context.fillStyle = color(overlay.color, valuesX.length > 300 ? 0.6 : 0.85);
    for (let star = 0; star < valuesX.length; star += 1) {
      if (valuesX[star] === null || valuesY[star] === null) continue;
      context.beginPath();
      context.arc(scales.px(valuesX[star]), scales.py(valuesY[star]), size, 0, 7);
      context.fill();
    }
  }

  /** One star with its errors, and perhaps the star that it is compared with. */
  drawMark(context, scales) {
    for (const { x, y, ex, ey, color: name, ring } of this.mark) {
      if (x === null || y === null || x === undefined || y === undefined) continue;
      const [at, down] = [scales.px(x), scales.py(y)];
      context.strokeStyle = color(name);
      context.lineWidth = 1.6;
      context.beginPath();
      if (ex) { context.moveTo(scales.px(x - ex), down); context.lineTo(scales.px(x + ex), down); }
      if (ey) { context.moveTo(at, scales.py(y - ey)); context.lineTo(at, scales.py(y + ey)); }
      context.stroke();
      context.beginPath();
      context.arc(at, down, 5, 0, 7);
      context.fillStyle = ring ? color("panel") : color(name);
      context.fill();
      context.lineWidth = 2;
      context.strokeStyle = ring ? color(name) : color("panel");
      context.stroke();
    }
  }

  drawBox(context) {
    const { x0, y0, x1, y1, chooses } = this.box;
    context.fillStyle = color(chooses ? "accent" : "ink", 0.12);
    context.strokeStyle = color(chooses ? "accent" : "ink-soft");
    context.fillRect(x0, y0, x1 - x0, y1 - y0);
    context.strokeRect(x0 + 0.5, y0 + 0.5, x1 - x0, y1 - y0);
  }
}

/** What the pointer and the keys do on a plane. */
Object.assign(Plane.prototype, {
  listen() {
    const place = (event) => {
      const area = this.canvas.getBoundingClientRect();
      return [event.clientX - area.left, event.clientY - area.top];
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || event.pointerType === "touch") return;
      const [x, y] = place(event);
      this.canvas.setPointerCapture(event.pointerId);
      this.box = { x0: x, y0: y, x1: x, y1: y, chooses: event.shiftKey };
      this.tip.hidden = true;
    });
    this.canvas.addEventListener("pointermove", (event) => {
      const [x, y] = place(event);
      if (!this.box) {
        this.showTip(x, y);
        return;
      }
      Object.assign(this.box, { x1: x, y1: y });
      this.drawSoon();
    });
    this.canvas.addEventListener("pointerup", () => this.endBox());
    this.canvas.addEventListener("pointercancel", () => { this.box = null; this.draw(); });
    this.canvas.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    this.canvas.addEventListener("dblclick", () => this.reset());
    this.canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return; // without it, the page scrolls
      event.preventDefault();
      this.zoom(event.deltaY > 0 ? 1.25 : 0.8, ...place(event));
    }, { passive: false });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
  },

  drawSoon() {
    cancelAnimationFrame(this.waiting);
    this.waiting = requestAnimationFrame(() => this.draw());
  },

  key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key === "+" || event.key === "=") this.zoom(0.7);
    else if (event.key === "-") this.zoom(1 / 0.7);
    else if (event.key === "0") this.reset();
    else if (event.key === "Escape") this.group.select(null);
    else if (moves[event.key]) this.move(...moves[event.key]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  },

  move(right, down) {
    const scales = this.scales();
    const view = this.view;
    const dx = scales.vx(MARGIN.left + right * scales.inner.width * 0.2) - scales.vx(MARGIN.left);
    const dy = scales.vy(MARGIN.top + down * scales.inner.height * 0.2) - scales.vy(MARGIN.top);
    this.view = { x0: view.x0 + dx, x1: view.x1 + dx, y0: view.y0 + dy, y1: view.y1 + dy };
    this.draw();
  },

  zoom(factor, atX, atY) {
    const scales = this.scales();
    const view = this.view;
    const x = scales.vx(atX ?? MARGIN.left + scales.inner.width / 2);
    const y = scales.vy(atY ?? MARGIN.top + scales.inner.height / 2);
    this.view = {
      x0: x + (view.x0 - x) * factor,
      x1: x + (view.x1 - x) * factor,
      y0: y + (view.y0 - y) * factor,
      y1: y + (view.y1 - y) * factor,
    };
    this.draw();
  },

  endBox() {
    const box = this.box;
    this.box = null;
    if (!box) return;
    const isClick = Math.abs(box.x1 - box.x0) < 5 || Math.abs(box.y1 - box.y0) < 5;
    if (isClick) {
      this.draw();
      return;
    }
    const scales = this.scales();
    const order = (first, second) => (first < second ? [first, second] : [second, first]);
    const [x0, x1] = order(scales.vx(box.x0), scales.vx(box.x1));
    const [y0, y1] = order(scales.vy(box.y0), scales.vy(box.y1));
    if (!box.chooses) {
      this.view = { x0, x1, y0, y1 };
      this.draw();
      return;
    }
    const valuesX = this.group.columns[this.about.x.column];
    const valuesY = this.group.columns[this.about.y.column];
    const mask = new Uint8Array(valuesX.length);
    for (let star = 0; star < mask.length; star += 1) {
      const inX = valuesX[star] >= x0 && valuesX[star] <= x1;
      mask[star] = inX && valuesY[star] >= y0 && valuesY[star] <= y1 ? 1 : 0;
    }
    this.group.select(mask);
  },

  showTip(x, y) {
    const scales = this.scales();
    const inside = x >= MARGIN.left && x <= scales.width - MARGIN.right && y >= MARGIN.top && y <= MARGIN.top + scales.inner.height;
    let text = "";
    if (inside && this.points && this.near) {
      let best = 12 * 12;
      for (const [across, down, star] of this.near) {
        const distance = (across - x) ** 2 + (down - y) ** 2;
        if (distance < best) {
          best = distance;
          text = this.starText(star);
        }
      }
    } else if (inside && this.cells) {
      const { all, columns } = this.cells;
      const count = all[Math.floor((y - MARGIN.top) / CELL) * columns + Math.floor((x - MARGIN.left) / CELL)];
      if (count) text = `${count} stars at ${brief(scales.vx(x))}, ${brief(scales.vy(y))}`;
    }
    this.tip.hidden = !text;
    this.tip.textContent = text;
    this.tip.style.left = `${Math.min(x + 12, Math.max(scales.width - 190, 0))}px`;
    this.tip.style.top = `${y + 14}px`;
  },

  starText(star) {
    return this.group.about.columns
      .map(({ name, text, digits }) => `${text} ${show(this.group.columns[name][star], digits)}`)
      .join("\n");
  },
});
