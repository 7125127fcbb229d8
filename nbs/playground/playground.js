// The playground: the course's networks in the reader's browser. Nothing of a picture leaves the page.
// The first half are plain functions that repeat what the package does in Python; the second half is the page.

// ---- Pillow's bilinear resampling, to the bit -------------------------------------------------------------------------------
// Shrinking averages over a triangle as wide as the step (a canvas would skip pixels), in fixed point, along the rows first, 8 bits between.
// (From release 13 on Pillow takes narrow, tall pictures along the columns first: then some bytes differ by one.)
const BITS = 22;

// For each of `to` output pixels: the first of `from` input pixels that counts, and the weights (their sum is 1) of those that follow.
function triangles(from, to) {
  const scale = from / to, reach = Math.max(scale, 1);
  return Array.from({length: to}, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5)), last = Math.min(from, Math.trunc(centre + reach + 0.5));
    const raw = Array.from({length: last - first}, (_, k) => Math.max(0, 1 - Math.abs((first + k - centre + 0.5) / reach)));
    const sum = raw.reduce((a, b) => a + b, 0);
    return {first, weights: raw.map(w => w / sum)};
  });
}

export const triangleWeights = (from, to) => triangles(from, to).map(({first, weights}) => ({first, weights: Int32Array.from(weights, w => Math.trunc(0.5 + w * 2 ** BITS))}));

// `rows(top, count)` gives RGBA bytes of `count` rows; the result holds RGB bytes of size x size. Memory: a strip of the picture at a time.
export function squash(rows, width, height, size) {
  const across = triangleWeights(width, size), down = triangleWeights(height, size);
  const narrow = new Uint8ClampedArray(height * size * 3), result = new Uint8ClampedArray(size * size * 3);
  const strip = Math.max(1, Math.floor(2 ** 20 / width)), half = 2 ** (BITS - 1);
  for (let top = 0; top < height; top += strip) {
    const count = Math.min(strip, height - top), pixels = rows(top, count);
    for (let y = 0; y < count; y++) for (let x = 0; x < size; x++) {
      const {first, weights} = across[x];
      let r = half, g = half, b = half, at = (y * width + first) * 4;
      for (let k = 0; k < weights.length; k++, at += 4) { const w = weights[k]; r += pixels[at] * w; g += pixels[at + 1] * w; b += pixels[at + 2] * w; }
      const to = ((top + y) * size + x) * 3;
      narrow[to] = r >> BITS; narrow[to + 1] = g >> BITS; narrow[to + 2] = b >> BITS;
    }
  }
  for (let y = 0; y < size; y++) for (let x = 0; x < size * 3; x++) {
    const {first, weights} = down[y];
    let sum = half;
    for (let k = 0; k < weights.length; k++) sum += narrow[(first + k) * size * 3 + x] * weights[k];
    result[y * size * 3 + x] = sum >> BITS;
  }
  return result;
}

// RGB bytes [size, size, 3] as the network takes them: float32 [3, size, size] from 0 to 1.
export function toTensor(bytes, size) {
  const tensor = new Float32Array(3 * size * size);
  for (let i = 0; i < size * size; i++) for (let c = 0; c < 3; c++) tensor[c * size * size + i] = bytes[i * 3 + c] / 255;
  return tensor;
}

// Rows `start` to `stop` of logits [size, size] stretched to height x width by the same filter, as the package's `Segmenter` does it.
export function enlarge(logits, size, width, height, start = 0, stop = height) {
  const across = triangles(size, width), down = triangles(size, height).slice(start, stop), wide = new Float32Array(size * width), result = new Float32Array((stop - start) * width);
  for (let y = 0; y < size; y++) for (let x = 0; x < width; x++) {
    const {first, weights} = across[x];
    let sum = 0;
    for (let k = 0; k < weights.length; k++) sum += weights[k] * logits[y * size + first + k];
    wide[y * width + x] = sum;
  }
  for (let y = 0; y < down.length; y++) for (let k = 0, {first, weights} = down[y]; k < weights.length; k++) {
    const from = (first + k) * width;
    for (let x = 0; x < width; x++) result[y * width + x] += weights[k] * wide[from + x];
  }
  return result;
}

export const logit = p => Math.log(p / (1 - p)), sigmoid = x => 1 / (1 + Math.exp(-x));

// ---- files: fetched once, checked by their hash, kept by the browser ----------------------------------------------------------
const KEPT = 'unet-course-playground';

async function digest(buffer) {
  return 'sha384-' + btoa(String.fromCharCode(...new Uint8Array(await crypto.subtle.digest('SHA-384', buffer))));
}

// A file that did not come: no reason to think that the browser could not have run it.
class Undelivered extends Error {}

// `file`: {url, bytes, integrity, what}. A copy whose hash is another (of an older site) is fetched anew.
async function load(file, progress) {
  const store = await globalThis.caches?.open(KEPT).catch(() => null), kept = await store?.match(file.url);
  if (kept) {
    const buffer = await kept.arrayBuffer();
    if (await digest(buffer) === file.integrity) { progress(buffer.byteLength); return buffer; }
    await store.delete(file.url);
  }
  // Past the browser's own cache: it may hold a damaged or an older file, and the server may well say that nothing has changed.
  // Without a secure context there is no crypto.subtle; then the browser itself compares, and cannot say how far it is.
  const answer = await fetch(file.url, crypto.subtle ? {cache: 'no-store'} : {integrity: file.integrity}).catch(() => null);
  if (!answer) throw new Undelivered(`${file.what} could not be loaded${navigator.onLine === false ? ': you are offline' : ''}. Look at your connection, then try again.`);
  if (!answer.ok) throw new Undelivered(`${file.what} could not be loaded (the server says ${answer.status}). Try again later.`);
  const parts = [], reader = answer.body.getReader();
  try { for (let part; !(part = await reader.read()).done; progress(part.value.length)) parts.push(part.value); }
  catch { throw new Undelivered(`${file.what} was cut off on its way here. Look at your connection, then try again.`); }
  const buffer = await new Blob(parts).arrayBuffer();
  if (crypto.subtle && await digest(buffer) !== file.integrity) throw new Undelivered(`${file.what} is not the file this page was made with, so it is not used. Reload the page.`);
  await store?.put(file.url, new Response(buffer)).catch(() => null);  // a full disk is no reason to stop
  return buffer;
}

async function isKept(file) {
  if (file.own) return true;
  try { return Boolean(await (await caches.open(KEPT)).match(file.url)); } catch { return false; }
}

// ---- pictures ---------------------------------------------------------------------------------------------------------------
const MOST = {bytes: 60e6, pixels: 64e6, shown: 720};  // of a file, of a picture, of a side on the page

const canvasOf = (width, height) => Object.assign(document.createElement('canvas'), {width, height});

// What is kept of a picture: the pixels shown, and a way back to the whole file. The decoded picture itself is let go.
async function openPicture(blob, title) {
  if (blob.size > MOST.bytes) throw new Error(`${title}: ${Math.round(blob.size / 1e6)} MB; at most ${MOST.bytes / 1e6} MB are read. Save it smaller.`);
  const image = new Image(), url = URL.createObjectURL(blob);
  try {  // the size first: it is known before the pixels are decoded
    await new Promise((good, bad) => { image.onload = good; image.onerror = bad; image.src = url; });
  } catch { throw new Error(`${title} is no picture that this browser can read. Use a JPEG, PNG, WebP, GIF or AVIF.`); }
  finally { URL.revokeObjectURL(url); }
  const width = image.naturalWidth, height = image.naturalHeight;
  if (!width || !height) throw new Error(`${title} has no size in pixels. Use a JPEG, PNG, WebP, GIF or AVIF.`);
  if (width * height > MOST.pixels) throw new Error(`${title}: ${width} x ${height} pixels; at most ${MOST.pixels / 1e6} million are read. Save it smaller.`);
  const picture = {blob, title, width, height, squashed: new Map()};
  const scale = Math.min(1, MOST.shown / Math.max(width, height));
  const shown = canvasOf(Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))), pen = shown.getContext('2d', {willReadFrequently: true});
  await withPixels(picture, bitmap => {
    pen.fillStyle = '#fff';
    pen.fillRect(0, 0, shown.width, shown.height);
    pen.imageSmoothingQuality = 'high';
    pen.drawImage(bitmap, 0, 0, shown.width, shown.height);
  });
  picture.shown = pen.getImageData(0, 0, shown.width, shown.height);
  return picture;
}

// Decoded as Pillow does it: turned by the EXIF tag, the colour profile left alone.
async function withPixels(picture, use) {
  let bitmap;
  try { bitmap = await createImageBitmap(picture.blob, {colorSpaceConversion: 'none'}); }
  catch { throw new Error(`${picture.title} could not be decoded: damaged, or too large for this browser. Try a smaller copy.`); }
  try { return use(bitmap); } finally { bitmap.close(); }
}

// RGB bytes of the picture squashed to the network's square; transparency over white.
async function squashed(picture, size) {
  if (!picture.squashed.has(size)) picture.squashed.set(size, await withPixels(picture, bitmap => {
    const rows = Math.max(1, Math.floor(2 ** 20 / bitmap.width)), pen = canvasOf(bitmap.width, Math.min(rows, bitmap.height)).getContext('2d', {willReadFrequently: true});
    pen.imageSmoothingEnabled = false;
    return squash((top, count) => {
      pen.fillStyle = '#fff';
      pen.fillRect(0, 0, bitmap.width, count);
      pen.drawImage(bitmap, 0, top, bitmap.width, count, 0, 0, bitmap.width, count);
      return pen.getImageData(0, 0, bitmap.width, count).data;
    }, bitmap.width, bitmap.height, size);
  }));
  return picture.squashed.get(size);
}

// What an ONNX file says of itself: {name: text}, the pairs in field 14 of the message that the file is.
function notesOf(bytes) {
  const notes = {}, text = new TextDecoder();
  let at = 0;
  const number = () => { let value = 0, scale = 1, byte; do { byte = bytes[at++]; value += (byte & 127) * scale; scale *= 128; } while (byte > 127); return value; };
  while (at < bytes.length) {
    const tag = number(), kind = tag % 8;
    if (kind === 0) number();
    else if (kind === 2) {
      const length = number(), stop = at + length, pair = [];
      if (tag >> 3 === 14) while (at < stop) { const place = number() >> 3, long = number(); pair[place] = text.decode(bytes.subarray(at, at += long)); }
      if (pair[1]) notes[pair[1]] = pair[2];
      at = stop;
    } else at += kind === 1 ? 8 : kind === 5 ? 4 : bytes.length;
  }
  return notes;
}

// ---- networks ---------------------------------------------------------------------------------------------------------------
// Logits [size, size], the further outputs asked for ({name: {data, dims}}), and milliseconds. `gain`: of each skip connection, full size first.
async function predict(ort, session, tensor, {size, depth}, gain = Array(depth).fill(1), more = []) {
  const feeds = {images: new ort.Tensor('float32', tensor, [1, 3, size, size]), skip_gain: new ort.Tensor('float32', Float32Array.from(gain), [depth])}, start = performance.now();
  const found = await session.run(feeds, ['logits', ...more]), read = name => found[name].getData();
  const logits = await read('logits'), stages = {};
  for (const name of more) stages[name] = {data: await read(name), dims: found[name].dims};
  return {logits, stages, milliseconds: performance.now() - start};
}

class Networks {
  constructor(manifest, base) {
    Object.assign(this, {manifest, base, sessions: new Map(), runtimes: new Map(), coming: new Map(), came: new Map(), last: Promise.resolve()});
  }

  // The files that a prediction with these variants needs and that are not in memory yet.
  files(variants, backend) {
    const {runtime, models} = this.manifest, from = new URL(runtime.base, new URL(this.base, document.baseURI));
    const parts = this.runtimes.has(backend) ? [] : runtime[backend].map(f => ({...f, url: new URL(f.file, from).href, what: 'ONNX Runtime'}));
    const nets = variants.filter(v => !this.sessions.has(`${backend} ${v}`)).map(v => ({...models[v], variant: v, what: `The network ${v}`,
      ...models[v].own ? {url: v, bytes: 0} : {url: new URL(this.base + models[v].file, document.baseURI).href}}));
    return {parts, nets, all: [...parts, ...nets]};
  }

  // What is under way already is waited for, not begun again; what has failed can be begun again.
  once(key, make) {
    if (!this.coming.has(key)) this.coming.set(key, make().finally(() => this.coming.delete(key)));
    return this.coming.get(key);
  }

  // One at a time: a runtime cannot make or run two sessions at once.
  inTurn(action) { return this.last = this.last.catch(() => null).then(action); }

  fetch(file) {
    return this.once(file.url, () => {
      this.came.set(file.url, 0);
      return file.own ? file.own.arrayBuffer() : load(file, n => { this.came.set(file.url, this.came.get(file.url) + n); this.tell(); });
    });
  }

  // Loads what is missing and makes the sessions; the `progress(text, share)` of the latest call is told how far all that it waits for is.
  async prepare(variants, backend, progress) {
    const {parts, nets, all} = this.files(variants, backend), total = all.reduce((sum, f) => sum + f.bytes, 0);
    if (!all.length) return;
    const runtime = parts.length && this.once(backend, async () => {
      const [code, binary] = await Promise.all(parts.map(part => this.fetch(part)));
      const url = URL.createObjectURL(new Blob([code], {type: 'text/javascript'}));
      const ort = await import(url);
      URL.revokeObjectURL(url);
      ort.env.wasm.wasmBinary = binary;
      ort.env.wasm.numThreads = 1;  // more need headers that a plain web server does not send
      ort.env.logLevel = 'error';
      this.runtimes.set(backend, ort);
    });
    const sessions = nets.map(net => this.once(`${backend} ${net.variant}`, async () => {
      const [buffer] = await Promise.all([this.fetch(net), runtime]), ort = this.runtimes.get(backend);
      this.sessions.set(`${backend} ${net.variant}`, await this.inTurn(async () => {
        const session = await ort.InferenceSession.create(new Uint8Array(buffer), {executionProviders: [backend], logSeverityLevel: 3});
        await predict(ort, session, new Float32Array(3 * net.size * net.size), net);  // the first run is slower: not the reader's
        return session;
      }));
    }));
    this.tell = () => {
      const share = total ? all.reduce((sum, f) => sum + this.came.get(f.url), 0) / total : 1;
      progress(share < 1 ? `Loading ${(total / 1e6).toFixed(1)} MB, once` : 'Starting the network', share);
    };
    this.tell();
    await Promise.all([runtime, ...sessions]);
  }

  run(variant, backend, tensor, gain, more) {
    return this.inTurn(() => predict(this.runtimes.get(backend), this.sessions.get(`${backend} ${variant}`), tensor, this.manifest.models[variant], gain, more));
  }
}

// 'yes', 'slow' (a processor that plays GPU: there, but not chosen by itself) or '' (none).
async function findWebGPU() {
  try {
    const adapter = await navigator.gpu?.requestAdapter();
    return !adapter ? '' : adapter.info?.isFallbackAdapter || adapter.isFallbackAdapter || /swiftshader|llvmpipe/i.test(`${adapter.info?.architecture} ${adapter.info?.description}`) ? 'slow' : 'yes';
  } catch { return ''; }
}

// ---- painting -----------------------------------------------------------------------------------------------------------------
const VIRIDIS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]];
const YELLOW = [255, 201, 51], BLUE = [27, 108, 168], ORANGE = [214, 84, 20];

function colourOf(p) {
  const x = p * (VIRIDIS.length - 1), i = Math.min(Math.floor(x), VIRIDIS.length - 2);
  return VIRIDIS[i].map((v, c) => v + (VIRIDIS[i + 1][c] - v) * (x - i));
}

// Calls `colour(i, x, y)` for every pixel; it gives [r, g, b, share of it over the grey picture], or null: the picture darkened.
function paint(canvas, shown, colour) {
  const {width, height, data} = shown, image = new ImageData(width, height), painted = image.data;
  for (let y = 0, i = 0; y < height; y++) for (let x = 0; x < width; x++, i++) {
    const c = colour(i, x, y), share = c[3], at = 4 * i;
    painted[at] = c[0] * share + data[at] * (1 - share);
    painted[at + 1] = c[1] * share + data[at + 1] * (1 - share);
    painted[at + 2] = c[2] * share + data[at + 2] * (1 - share);
    painted[at + 3] = 255;
  }
  Object.assign(canvas, {width, height}).getContext('2d').putImageData(image, 0, 0);
}

const isEdge = (mask, width, height) => (i, x, y, reach) => {
  const inside = mask[i];
  return (x >= reach && mask[i - reach] !== inside) || (x < width - reach && mask[i + reach] !== inside) || (y >= reach && mask[i - reach * width] !== inside) || (y < height - reach && mask[i + reach * width] !== inside);
};

// The mask over the picture: the rest dark, the pet tinted, a light line inside its edge.
function paintMask(canvas, shown, mask, overlay) {
  const edge = isEdge(mask, shown.width, shown.height), reach = Math.max(1, Math.round(Math.max(shown.width, shown.height) / 200));
  const line = [...YELLOW, 1], beside = [20, 24, 32, .85], pet = [...YELLOW, .45 * overlay], rest = [14, 20, 30, .85 * overlay];  // made once: there are many pixels
  paint(canvas, shown, (i, x, y) => edge(i, x, y, reach) ? (mask[i] ? line : beside) : mask[i] ? pet : rest);
}

function paintProbability(canvas, shown, logits) {
  const table = Array.from({length: 256}, (_, k) => [...colourOf(k / 255), 1]);
  paint(canvas, shown, i => table[Math.round(sigmoid(logits[i]) * 255)]);
}

function paintDifference(canvas, shown, a, b) {
  const both = [...YELLOW, .35], neither = [14, 20, 30, .72], stripe = [255, 255, 255, .92], onlyA = [...BLUE, .9], onlyB = [...ORANGE, .9];
  paint(canvas, shown, (i, x, y) => {
    if (a[i] && b[i]) return both;
    if (!a[i] && !b[i]) return neither;
    return ((a[i] ? x + y : x - y + 4096) & 7) < 3 ? stripe : a[i] ? onlyA : onlyB;
  });
}

function paintBytes(canvas, bytes, size) {
  const image = new ImageData(size, size);
  for (let i = 0; i < size * size; i++) image.data.set([bytes[3 * i], bytes[3 * i + 1], bytes[3 * i + 2], 255], 4 * i);
  Object.assign(canvas, {width: size, height: size}).getContext('2d').putImageData(image, 0, 0);
}

// ---- the page -----------------------------------------------------------------------------------------------------------------
const FACTORS = {
  down: {mp: 'Max pooling (mp)', str_conv: 'Strided conv (str_conv)'},
  up: {tr: 'Transposed conv (tr)', ups: 'Nearest + conv (ups)'},
  loss: {bce: 'Weighted BCE', dice: 'Dice'},
};
const percent = x => `${(100 * x).toFixed(1)} %`;
const counted = new Intl.NumberFormat('en');
const element = (tag, properties = {}, ...children) => { const node = Object.assign(document.createElement(tag), properties); node.append(...children); return node; };

function whatIsMissing() {
  const simd = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11);
  if (typeof WebAssembly !== 'object' || !WebAssembly.validate(simd)) return 'WebAssembly with SIMD';
  if (typeof createImageBitmap !== 'function') return 'createImageBitmap';
  return typeof ReadableStream === 'function' ? '' : 'streams';
}

class Playground {
  constructor(root) {
    this.root = root;
    this.base = root.dataset.base;
    this.state = {picture: null, variants: {a: 'mp-tr-bce', b: 'mp-ups-bce'}, results: {}, compare: false, chosen: false, asked: false, backend: 'wasm'};
    this.turn = 0;  // of predictions: an answer to an older question is dropped
    this.opening = 0;  // of pictures, likewise
    this.naming = 0;  // of networks of the reader's own
    this.way = 0;  // of views and addresses, likewise
    this.filming = false;
  }

  $(selector) { return this.root.querySelector(selector); }
  panel(name) { return this.$(`[data-panel=${name}]`); }

  async start() {
    const missing = whatIsMissing();
    if (missing) { this.$('.pg-fallback').textContent = `This browser is too old for the playground: it has no ${missing}. Firefox, Chrome, Edge and Safari have had it since 2023.`; return; }
    let manifest;
    try {
      const answer = await fetch(this.base + 'manifest.json', {cache: 'no-cache'});  // an old one would refuse the files of a new site
      if (!answer.ok) throw new Error();
      manifest = await answer.json();
    } catch { this.$('.pg-fallback').textContent = 'The playground cannot find its networks here. They are built with the site; to serve the page yourself: unet-course export --all --format playground --out DIR'; return; }
    this.manifest = manifest;
    this.networks = new Networks(manifest, this.base);
    this.webgpu = await findWebGPU();
    const {view, picture} = this.readAddress();
    const markup = this.$('.pg-markup');  // in a script element: where a notebook's scripts are stripped, no dead button is left over
    markup.replaceWith(element('div', {className: 'pg-app', innerHTML: markup.textContent}));
    this.$('.pg-fallback').hidden = true;
    this.build();
    const {way} = this;
    await this.openSample(picture ?? manifest.samples[0]);
    if (view && way === this.way) await this.look(view);
    this.root.dataset.ready = 'yes';
    window.addEventListener('hashchange', () => this.follow());
    if (location.hash !== this.at) this.follow();  // a link on the page, used since
  }

  // Takes the networks that the address names, and returns the view and the sample it names: ?a=…&b=…&picture=… or #down=mp&up=ups&view=loupe
  readAddress() {
    const {models, samples} = this.manifest, {state} = this, known = (...names) => names.find(name => models[name]), first = Object.keys(models)[0];
    const wanted = new URLSearchParams(location.search);
    this.at = location.hash;
    for (const [key, value] of new URLSearchParams(location.hash.slice(1))) wanted.set(key, value);
    const start = known(wanted.get('a'), state.variants.a, first).split('-'), named = Object.keys(FACTORS).map((factor, i) => wanted.get(factor) ?? start[i]);
    const a = known(named.join('-'), start.join('-')), view = wanted.get('view'), b = known(wanted.has('b') ? wanted.get('b') : view === 'loupe' && this.other(a));
    Object.assign(state, {variants: {a, b: b ?? this.other(a)}, compare: Boolean(b), chosen: Boolean(b)});
    return {view, picture: samples.find(sample => sample.name === wanted.get('picture'))};
  }

  // The address follows the page, so that a link to it opens the same.
  remember() {
    if (this.root.dataset.ready !== 'yes' || (location.hash !== this.at && location.hash.includes('='))) return;  // another address waits to be followed
    const {variants, compare, picture} = this.state, levels = variants.a.split('-'), {own} = this.manifest.models[variants.a] ?? {};  // a file of the reader's has no address
    const at = new URLSearchParams(own ? {} : levels.length === 3 ? Object.keys(FACTORS).map((factor, i) => [factor, levels[i]]) : {a: variants.a});
    at.set('b', compare ? variants.b : '');
    if (picture?.sample) at.set('picture', picture.sample.name);
    if (this.looking()) at.set('view', this.inside.view);
    history.replaceState(history.state, '', `#${at}`);
    this.at = location.hash;
  }

  // And the page follows the address: a link on the page, or one that the reader writes.
  async follow() {
    if (!location.hash.includes('=')) return;  // a place on the page
    const way = ++this.way, {view, picture} = this.readAddress();
    ++this.turn;  // what is under way answers an older question
    if (picture) ++this.opening;
    this.check();
    if (picture && picture !== this.state.picture?.sample) await this.openSample(picture);
    if (way !== this.way) return;
    if (view) await this.look(view);
    else { this.$('.pg-inside').open = false; await this.update(); }
  }

  // The toggles say which networks there are; none is pressed for a network of the reader's own.
  check() {
    const {variants, compare} = this.state;
    this.$('.pg-compare').checked = compare;
    for (const [net, variant] of Object.entries(variants)) for (const [i, factor] of Object.keys(FACTORS).entries())
      for (const input of this.root.querySelectorAll(`[name=pg-${net}-${factor}]`)) input.checked = !this.manifest.models[variant]?.own && input.value === variant.split('-')[i];
  }

  build() {
    const {manifest, state} = this;
    for (const sample of manifest.samples) {
      const image = element('img', {src: this.base + sample.file, alt: '', loading: 'lazy'});
      const button = element('button', {type: 'button', title: `${sample.title}. ${sample.credit}`, onclick: () => this.openSample(sample)}, image);
      button.setAttribute('aria-label', sample.title);
      button.setAttribute('aria-pressed', 'false');
      button.dataset.sample = sample.name;
      this.$('.pg-samples').append(button);
    }
    for (const fieldset of this.root.querySelectorAll('.pg-network')) for (const group of fieldset.querySelectorAll('[data-factor]')) {
      const {network} = fieldset.dataset, {factor} = group.dataset, place = Object.keys(FACTORS).indexOf(factor);
      for (const [level, text] of Object.entries(FACTORS[factor])) {
        const input = element('input', {type: 'radio', name: `pg-${network}-${factor}`, value: level});
        input.onchange = () => this.choose(network, place, level);
        group.append(element('label', {className: 'pg-pill'}, input, element('span', {}, text)));
      }
    }
    const on = (selector, event, action) => this.$(selector).addEventListener(event, action);
    this.check();
    on('.pg-compare', 'change', e => { state.compare = e.target.checked; this.update(); });
    on('.pg-threshold', 'input', () => this.draw());
    on('.pg-overlay', 'input', () => this.draw());
    for (const radio of this.root.querySelectorAll('[name=pg-view]')) radio.addEventListener('change', () => this.draw());
    on('.pg-backend', 'change', () => this.update());
    on('.pg-run', 'click', () => { state.asked = true; this.$('.pg-stage').focus(); this.update(); });  // the button goes; the focus stays where the mask will be
    on('.pg-save', 'click', () => this.save());
    on('.pg-to-inside', 'click', () => this.lead());
    on('.pg-inside', 'toggle', async e => { if (e.target.open) { await this.look(); if (e.target.open) this.show(); } else if (this.inside?.gain()) this.update(); else this.remember(); });  // closed, the masks are again those of the whole network
    on('.pg-choose', 'click', () => this.$('.pg-file').click());
    on('.pg-file', 'change', e => { const [file] = e.target.files; if (file) this.receive(file); e.target.value = ''; });
    on('.pg-camera', 'click', () => this.camera());
    for (const option of this.$('.pg-backend').options) if (option.value === 'webgpu') option.disabled = !this.webgpu;
    this.root.addEventListener('dragover', e => { e.preventDefault(); this.root.classList.add('pg-over'); });
    for (const event of ['dragleave', 'drop']) this.root.addEventListener(event, () => this.root.classList.remove('pg-over'));
    this.root.addEventListener('drop', e => { e.preventDefault(); const [file] = e.dataTransfer.files; file ? this.receive(file) : this.fail('What you dropped is no file. Save the picture first, then drop it.'); });
    document.addEventListener('paste', e => { const file = [...e.clipboardData.files][0]; if (file) { e.preventDefault(); this.open(file, 'The pasted picture'); } });
    for (const panel of this.root.querySelectorAll('[data-panel] canvas')) panel.addEventListener('pointermove', e => this.point(e));
    this.root.addEventListener('pointerleave', () => this.status());
  }

  // Opens the views of the inside. Their script and numbers come now; until then, and while the panel is closed, nothing of them is computed.
  async look(view) {
    const box = this.$('.pg-inside');
    try {
      if (!this.inside) await (this.insideComing ??= (async () => {
        const [{Panel}, answer] = await Promise.all([import('./inside.js'), fetch(this.base + 'inside.json', {cache: 'no-cache'})]);
        if (!answer.ok) throw new Error();
        this.inside = new Panel(this, await answer.json(), {element, colourOf, sigmoid, toTensor, percent, squashed});
        this.inside.choose('loupe', false);
      })());
    } catch {
      this.insideComing = null;
      await this.update();
      return this.fail('The views of the inside could not be loaded. Look at your connection, then open them again.');
    }
    if (view) this.inside.choose(view, false);
    if (box.open) await this.update();
    else if (view) box.open = true;  // and the event brings us here again
  }

  // The way from the masks to the panel.
  lead() {
    const box = this.$('.pg-inside');
    box.querySelector('summary').focus({preventScroll: true});
    if (box.open) box.scrollIntoView();
    else { this.leading = true; box.open = true; }
  }

  // What an opened panel says in short is in sight, as soon as there is something to say.
  show() {
    const box = this.$('.pg-inside'), said = box.querySelector('.pg-inside-said');
    if (this.leading || (said && this.state.results.a && said.getBoundingClientRect().bottom > innerHeight)) box.scrollIntoView();
    this.leading = false;
  }

  looking() { return this.$('.pg-inside').open ? this.inside : null; }

  // The network that differs in the up mode alone, or what there is: what a second network is at first, since the up modes are what the loupe shows.
  other(name) {
    const {models} = this.manifest, [down, up, loss] = this.variantOf(name).split('-');
    return [[down, {tr: 'ups', ups: 'tr'}[up], loss].join('-'), ...Object.keys(models)].find(id => models[id]);
  }

  // Puts a second network beside the first.
  second(variant) {
    this.state.variants.b = variant;
    this.state.compare = true;
    this.check();
    this.update();
  }

  fail(text) { const box = this.$('.pg-error'); box.hidden = !text; box.textContent = text ?? ''; }

  busy(on) { this.$('.pg-loading').hidden = !on; this.root.setAttribute('aria-busy', String(on)); }

  // What a screen reader is told; on the page the captions say it.
  say(text) { this.$('.pg-said').textContent = text; }

  choose(network, place, level) {
    const {variants} = this.state, parts = this.variantOf(variants[network]).split('-');
    parts[place] = level;
    this.state.variants[network] = parts.join('-');
    if (network === 'b') this.state.chosen = true;  // and it stays when the first one changes
    this.update();
  }

  // The variant id of a network: of one of the reader's own it is in its file.
  variantOf(name) { return this.manifest.models[name]?.variant ?? name; }

  receive(file) { return /\.onnx$/i.test(file.name) ? this.openNetwork(file) : this.open(file, file.name); }

  // A network of the reader's own, as `unet-course export` writes it; it takes the first network's place until a toggle is used.
  async openNetwork(file) {
    const naming = ++this.naming;  // of two dropped at once the later one counts
    let said = {};
    try { said = notesOf(new Uint8Array(await file.arrayBuffer())); } catch { /* no such file: it says nothing */ }
    if (naming !== this.naming) return;
    const {models} = this.manifest, number = key => said[key] === undefined ? undefined : Number(said[key]);
    if (!(number('size') > 0 && number('depth') > 0)) return this.fail(`${file.name} is no network that unet-course export wrote. Drop the .onnx file that the command names.`);
    const stem = file.name.replace(/\.onnx$/i, ''), known = Object.values(FACTORS).every((levels, i) => levels[said.variant?.split('-')[i]]);
    let name = `${stem} (yours)`;
    for (let n = 2; models[name]; n++) name = `${stem} (yours, ${n})`;  // the session of the first of this name may just be in use
    models[name] = {...Object.fromEntries(['size', 'depth', 'parameters', 'macs', 'threshold'].map(key => [key, number(key)])), own: file, bytes: file.size,
      variant: known ? said.variant : 'mp-tr-dice', setting: said.setting, seed: said.seed, test: said.test && JSON.parse(said.test)};
    this.state.variants.a = name;
    this.state.results = {};
    this.draw();  // without a mask, and none can be saved
    if (models[name].threshold) this.$('.pg-threshold').value = models[name].threshold;
    await this.update();
  }

  async openSample(sample) {
    const opening = ++this.opening;
    try {
      const answer = await fetch(this.base + sample.file);
      if (!answer.ok) throw new Error();
      await this.open(await answer.blob(), sample.title, sample, opening);
    } catch { if (opening === this.opening) this.fail(`The sample picture "${sample.title}" could not be loaded. Look at your connection, then try again.`); }
  }

  async open(blob, title, sample = null, opening = ++this.opening) {
    if (opening !== this.opening) return;
    this.fail();
    try {
      const picture = await openPicture(blob, title);
      if (opening !== this.opening) return;
      picture.sample = sample;
      if (sample?.truth) picture.truth = await this.truth(sample, picture.shown);
      if (opening !== this.opening) return;
      this.state.picture = picture;
      this.state.results = {};
      for (const button of this.$('.pg-samples').children) button.setAttribute('aria-pressed', String(button.dataset.sample === sample?.name));
      this.draw();  // without a mask, and none can be saved
      await this.update();
    } catch (error) { if (opening === this.opening) this.fail(error.message); }
  }

  async truth(sample, shown) {
    const answer = await fetch(this.base + sample.truth).catch(() => null);
    if (!answer?.ok) return null;
    const bitmap = await createImageBitmap(await answer.blob()), pen = canvasOf(shown.width, shown.height).getContext('2d', {willReadFrequently: true});
    pen.imageSmoothingEnabled = false;
    pen.drawImage(bitmap, 0, 0, shown.width, shown.height);
    return pen.getImageData(0, 0, shown.width, shown.height).data.filter((_, i) => i % 4 === 0).map(v => v > 127 ? 1 : 0);
  }

  nets() { return this.state.compare ? ['a', 'b'] : ['a']; }
  backend() { const chosen = this.$('.pg-backend').value; return chosen === 'auto' ? (this.webgpu === 'yes' ? 'webgpu' : 'wasm') : chosen; }
  size(net) { return this.manifest.models[this.state.variants[net]].size; }

  // Brings the page in step with the state: asks before the first download, loads, predicts, draws.
  async update() {
    const turn = ++this.turn, {state, manifest} = this, nets = this.nets();
    if (!state.compare && !state.chosen) state.variants.b = this.other(state.variants.a);
    this.remember();
    this.labels();
    this.card();
    const unknown = nets.map(n => state.variants[n]).filter(v => !manifest.models[v]);
    if (unknown.length) { this.busy(false); return this.fail(`This playground was built without ${unknown.join(' and ')}. Choose other toggles.`); }
    this.fail();
    if (!state.picture) return;
    try {
      const backend = this.backend(), variants = [...new Set(nets.map(n => state.variants[n]))];
      const files = this.networks.files(variants, backend).all;
      const asked = state.asked || (await Promise.all(files.map(isKept))).every(Boolean);
      const bytes = Object.fromEntries(await Promise.all(nets.map(async n => [n, await squashed(state.picture, this.size(n))])));
      if (turn !== this.turn) return;
      state.asked = asked;
      paintBytes(this.panel('input').querySelector('canvas'), bytes.a, this.size('a'));
      this.$('.pg-ask').hidden = state.asked;
      if (!state.asked) {
        const sum = list => `${(list.reduce((s, f) => s + f.bytes, 0) / 1e6).toFixed(1)} MB`, {parts, nets: models} = this.networks.files(variants, backend);
        this.$('.pg-run').textContent = 'Run the network on this picture';
        this.$('.pg-cost').textContent = `Loads ${sum(files)} once and keeps them: the network ${sum(models)}, its runtime ${sum(parts)}. It runs on your computer.`;
        this.looking()?.draw();
        return this.draw();
      }
      this.busy(files.length > 0);
      if (files.length) this.say('Loading the network');
      try {
        await this.networks.prepare(variants, backend, (text, share) => { this.$('.pg-loading-text').textContent = text; this.$('progress').value = share; });
      } catch (error) {
        if (turn !== this.turn || backend !== 'webgpu' || error instanceof Undelivered) throw error;
        this.webgpu = '';  // there, but not able to run it
        this.$('.pg-backend').value = 'wasm';
        return this.update();
      }
      if (turn !== this.turn) return;
      const results = {};
      for (const n of nets) {
        const variant = state.variants[n], {size, depth} = manifest.models[variant], inside = this.looking();
        results[n] = {...await this.networks.run(variant, backend, toTensor(bytes[n], size), inside?.gain(depth), inside?.wanted(depth)), variant, size};
      }
      if (turn !== this.turn) return;
      Object.assign(state, {results, backend});
      this.draw();
      this.say([...nets, ...(state.compare ? ['last'] : [])].map(name => this.panel(name).querySelector('figcaption').textContent).join('. '));
      this.looking()?.draw();
    } catch (error) {
      if (turn !== this.turn) return;
      this.fail(error.message);
      state.asked = false;
      this.looking()?.draw();
      this.$('.pg-ask').hidden = false;
      this.$('.pg-run').textContent = 'Try again';
      if (document.activeElement === this.$('.pg-stage')) this.$('.pg-run').focus();
    } finally { if (turn === this.turn) this.busy(false); }  // the bar is the latest question's
  }

  labels() {
    const {state} = this;
    this.root.classList.toggle('pg-comparing', state.compare);
    const names = this.root.querySelectorAll('.pg-network .pg-name');
    names[0].textContent = `Network ${state.variants.a}`;
    names[1].textContent = state.compare ? `Network ${state.variants.b}` : `Compare with ${state.variants.b}`;
    this.$('.pg-view-control').hidden = !state.compare;
    this.check();
  }

  draw() {
    const {state} = this, {picture, results} = state, nets = this.nets();
    if (!picture) return;
    const threshold = Number(this.$('.pg-threshold').value), overlay = Number(this.$('.pg-overlay').value) / 100, cut = logit(threshold), {shown} = picture;
    this.$('.pg-threshold-value').textContent = threshold.toFixed(2);
    this.$('.pg-overlay-value').textContent = `${Math.round(100 * overlay)} %`;
    const show = (name, caption, text, action) => {
      const panel = this.panel(name), canvas = panel.querySelector('canvas');
      panel.hidden = false;
      panel.querySelector('figcaption').textContent = caption;
      canvas.setAttribute('aria-label', text);
      action?.(canvas);
      canvas.style.maxWidth = `${75 * canvas.width / canvas.height}vh`;  // a tall picture stays on the screen
    };
    const done = nets.every(n => results[n]);
    this.$('.pg-leads').hidden = !done;
    this.$('.pg-save').disabled = !done;
    this.panel('input').hidden = true;
    this.panel('b').hidden = !state.compare;
    this.panel('last').hidden = !done;
    if ((!state.compare || !done) && this.manifest.models[state.variants.a]) show('input', `What the network gets: ${this.size('a')} × ${this.size('a')} pixels`, `${picture.title}, squashed to ${this.size('a')} by ${this.size('a')} pixels`);
    if (!done) {
      this.panel('b').hidden = true;
      show('a', `${picture.title}, ${picture.width} × ${picture.height}`, picture.title, canvas => paint(canvas, shown, () => [0, 0, 0, 0]));
      for (const name of ['probability', 'difference']) this.$(`.pg-legend-${name}`).hidden = true;
      return this.status();
    }
    const masks = {}, probable = state.compare && this.$('[name=pg-view]:checked').value === 'probability';
    for (const n of nets) {
      const result = results[n];
      if (result.for !== shown) Object.assign(result, {for: shown, wide: enlarge(result.logits, result.size, shown.width, shown.height)});
      const mask = masks[n] = Uint8Array.from(result.wide, x => x > cut ? 1 : 0);
      result.mask = mask;
      result.share = mask.reduce((s, v) => s + v, 0) / mask.length;
      let caption = `${state.compare ? n.toUpperCase() + ', ' : ''}${result.variant}: ${percent(result.share)} pet`;
      if (picture.truth) {
        let both = 0, either = 0;
        for (let i = 0; i < mask.length; i++) { both += mask[i] & picture.truth[i]; either += mask[i] | picture.truth[i]; }
        caption += `, IoU\u00a0${(either ? both / either : 1).toFixed(2)}`;
      }
      show(n, caption, `Mask of ${caption}`, canvas => probable ? paintProbability(canvas, shown, result.wide) : paintMask(canvas, shown, mask, overlay));
    }
    if (state.compare) {
      const differ = masks.a.reduce((s, v, i) => s + (v !== masks.b[i]), 0) / masks.a.length;
      show('last', `A and B differ on ${percent(differ)} of the pixels`, `Where the masks of ${results.a.variant} and ${results.b.variant} differ: ${percent(differ)} of the pixels`, canvas => paintDifference(canvas, shown, masks.a, masks.b));
    } else show('last', 'Probability of pet', `Probability map of ${results.a.variant}`, canvas => paintProbability(canvas, shown, results.a.wide));
    this.$('.pg-legend-difference').hidden = !state.compare;
    this.$('.pg-legend-probability').hidden = state.compare && !probable;
    this.$('.pg-tick').style.left = `${100 * threshold}%`;
    this.status();
  }

  status() {
    const {results, backend, picture} = this.state, done = this.nets().filter(n => results[n]);
    this.$('.pg-status').textContent = !picture || done.length < this.nets().length ? '' :
      `${done.map(n => `${this.state.compare ? n.toUpperCase() + ': ' : ''}${results[n].milliseconds.toFixed(0)} ms`).join(', ')} a prediction, ${backend === 'webgpu' ? 'WebGPU' : 'WebAssembly, one thread'}. ` +
      `${picture.title}, ${picture.width} × ${picture.height}${picture.sample ? `. ${picture.sample.credit}` : ''}`;
  }

  point(event) {
    const {results, picture} = this.state, done = this.nets().filter(n => results[n]?.wide), {width, height} = event.target;
    if (!done.length || width !== picture.shown.width) return;
    const box = event.target.getBoundingClientRect(), x = Math.floor((event.clientX - box.left) / box.width * width), y = Math.floor((event.clientY - box.top) / box.height * height);
    if (x < 0 || y < 0 || x >= width || y >= height) return;
    this.$('.pg-status').textContent = `Here: ${done.map(n => `${this.state.compare ? n.toUpperCase() + ' ' : ''}p = ${sigmoid(results[n].wide[y * width + x]).toFixed(3)}`).join(', ')} (probability of pet)`;
  }

  card() {
    const {models} = this.manifest, nets = this.nets(), rows = nets.map(n => models[this.state.variants[n]]), some = rows.find(r => r?.test);
    const line = (name, value) => element('tr', {}, element('th', {scope: 'row'}, name), ...rows.map(r => element('td', {}, (r && value(r)) ?? '–')));
    const head = element('tr', {}, element('th', {scope: 'col'}, 'Model card'), ...nets.map(n => element('th', {scope: 'col'}, `${this.state.compare ? n.toUpperCase() + ' ' : ''}${this.state.variants[n]}`)));
    const table = element('table', {}, element('thead', {}, head), element('tbody', {},
      line('Parameters', r => counted.format(r.parameters)), line(`Multiply-adds`, r => `${counted.format(Math.round(r.macs / 1e6))} M at ${r.size} × ${r.size}`), line('File', r => `${(r.bytes / 1e6).toFixed(1)} MB, ONNX`),
      line(`Test IoU at its own threshold${some ? `, ${counted.format(some.test.images)} images` : ''}`, r => r.test?.iou_threshold?.toFixed(4)), line('Test IoU at 0.5', r => r.test?.iou.toFixed(4)),
      line('Test Dice at 0.5', r => r.test?.dice.toFixed(4)), line('Test accuracy at 0.5', r => r.test && `${(100 * r.test.accuracy).toFixed(2)} %`),
      line('Own threshold, chosen on validation', r => r.threshold && element('span', {}, r.threshold.toFixed(2), element('button', {type: 'button', className: 'pg-use', onclick: () => { this.$('.pg-threshold').value = r.threshold; this.draw(); }}, 'use it'))), line('Training', r => [r.setting, r.seed && `seed ${r.seed}`].filter(Boolean).join(', ')), line('Licence', r => r.licence)));
    this.$('.pg-card').replaceChildren(table);
  }

  // The mask in the picture's own size, 0 and 255 as `unet-course predict` writes it.
  async save() {
    const {picture, results} = this.state, {logits, size, variant} = results.a, cut = logit(Number(this.$('.pg-threshold').value)), {width, height} = picture;
    const canvas = canvasOf(width, height), pen = canvas.getContext('2d');
    for (let top = 0; top < height; top += 256) {
      const stop = Math.min(top + 256, height), wide = enlarge(logits, size, width, height, top, stop), image = new ImageData(width, stop - top);
      for (let i = 0; i < wide.length; i++) image.data.set(wide[i] > cut ? [255, 255, 255, 255] : [0, 0, 0, 255], 4 * i);
      pen.putImageData(image, 0, top);
    }
    const blob = await new Promise(done => canvas.toBlob(done, 'image/png'));
    if (!blob) return this.fail('The mask could not be written: the picture is too large for this browser.');
    const link = element('a', {href: URL.createObjectURL(blob), download: `${picture.title.replace(/\.\w+$/, '').replace(/\W+/g, '_')}-${variant}.png`});
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60e3);
  }

  async camera() {
    if (this.filming) return;  // a second stream would stay on; the button stays enabled, to have the focus back afterwards
    this.filming = true;
    this.fail();
    const dialog = this.$('.pg-dialog'), video = dialog.querySelector('video');
    let stream, canvas;
    try {
      stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: 'environment'}});
      video.srcObject = stream;
      await video.play();
      dialog.showModal();
      const shot = await new Promise(done => {
        this.$('.pg-shoot').onclick = () => done(true);
        this.$('.pg-cancel').onclick = () => done(false);
        dialog.oncancel = () => done(false);
      });
      if (shot) {
        canvas = canvasOf(video.videoWidth, video.videoHeight);
        canvas.getContext('2d').drawImage(video, 0, 0);
      }
    } catch (error) {
      this.fail(error.name === 'NotAllowedError' ? 'The browser may not use the camera. Allow it in the address bar, or choose a file.' : 'No camera gives a picture. Choose a file instead.');
    } finally {
      for (const track of stream?.getTracks() ?? []) track.stop();
      video.srcObject = null;
      dialog.close();
      this.filming = false;
    }
    if (!canvas) return;
    const opening = ++this.opening;
    this.open(await new Promise(done => canvas.toBlob(done, 'image/png')), 'The camera picture', null, opening);
  }
}

for (const root of document.querySelectorAll('.playground')) {
  root.playground = new Playground(root);
  root.playground.start();
}
