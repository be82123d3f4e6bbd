/* Packed spectra: unpacked when they are needed, a few chunks are kept. See survey/pages/spectra_code.py. */

const NOISE_BLOCK = 64;
const [NOISE_LOWEST, NOISE_RATIO] = [1e-4, 1.1];
const noiseOf = (code) => NOISE_LOWEST * NOISE_RATIO ** (code - 1);

/** The spectra of a chunk: flux (null where bad) and noise on the pixels of the page. */
function unpackChunk(about, bytes) {
  const { rows, pixels, steps, smallest, noise } = about;
  const blocks = Math.ceil(pixels / NOISE_BLOCK);
  const maskBytes = Math.ceil(pixels / 8);
  const pairs = Math.ceil(pixels / 2);
  let at = 0;
  const take = (size) => bytes.subarray(at, (at += rows * size));
  const low = take(pixels);
  const high = take(pixels);
  const block = take(blocks);
  const bad = take(maskBytes);
  const codes = noise ? take(pairs) : null;
  return Array.from({ length: rows }, (_, row) => {
    const flux = new Array(pixels);
    const sigma = noise ? new Float32Array(pixels) : null;
    let level = 0;
    let code = 0;
    for (let pixel = 0; pixel < pixels; pixel += 1) {
      const place = row * pixels + pixel;
      const change = low[place] | (high[place] << 8);
      level = ((level + ((change >>> 1) ^ -(change & 1))) << 16) >> 16;
      const step = Math.max(noiseOf(block[row * blocks + ((pixel / NOISE_BLOCK) | 0)]) / steps, smallest);
      const isBad = (bad[row * maskBytes + (pixel >> 3)] >> (pixel & 7)) & 1;
      flux[pixel] = isBad ? null : 1 + level * step;
      if (!noise) continue;
      if (pixel % 2 === 0) code = (code + codes[row * pairs + (pixel >> 1)]) & 0xff;
      sigma[pixel] = noiseOf(code);
    }
    return { flux, sigma };
  });
}

/** All spectra of one kind, such as those of the candidates. */
class SpectrumReader {
  constructor(kind, kept = 3) {
    this.kind = kind;
    this.kept = kept;
    this.chunks = new Map();
    this.about = readJson(`${kind}-about`);
  }

  /** The spectrum of a number; null for a number below 0. */
  async get(number) {
    if (number < 0) return null;
    const chunk = Math.floor(number / this.about.perChunk);
    const spectra = await this.chunk(chunk);
    return spectra[number - chunk * this.about.perChunk];
  }

  chunk(number) {
    const found = this.chunks.get(number);
    if (found) {
      this.chunks.delete(number);
      this.chunks.set(number, found);
      return found;
    }
    const unpacked = unpack(`${this.kind}-${number}`).then((bytes) => unpackChunk(this.about.chunks[number], bytes));
    this.chunks.set(number, unpacked);
    while (this.chunks.size > this.kept) this.chunks.delete(this.chunks.keys().next().value);
    return unpacked;
  }

  /** Unpack what will be needed next. */
  prepare(number) {
    const chunk = Math.floor(number / this.about.perChunk);
    if (number >= 0 && chunk < this.about.chunks.length) this.chunk(chunk);
  }
}

/** The continuum of a candidate on the pixels of the page: nodes in steps of 1.5 %, joined by lines. */
function continuumOf(codes, pixels) {
  if (!codes) return null;
  const nodes = codes.map((code) => 1.015 ** (code - 255));
  const highest = Math.max(...nodes);
  return Array.from({ length: pixels }, (_, pixel) => {
    const place = (pixel / Math.max(pixels - 1, 1)) * (nodes.length - 1);
    const node = Math.min(Math.floor(place), nodes.length - 2);
    return (nodes[node] + (nodes[node + 1] - nodes[node]) * (place - node)) / highest;
  });
}
