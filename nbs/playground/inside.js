// The views of the inside: plain functions that repeat what unet_course.views.inside does, then the panel of the playground that draws them.

// ---- what is computed ---------------------------------------------------------------------------------------------------------
export const LOUPE = {up1: 'last up block', conv1: 'first convolution', decoder1: 'second convolution', logits: 'logits'};
export const GRID = 2;  // a ratio above it is called a grid

export const stageNames = depth => {
  const levels = Array.from({length: depth}, (_, i) => i + 1);
  return [...levels.map(l => `encoder${l}`), 'bottleneck', ...levels.reverse().map(l => `decoder${l}`)];
};

// The mean of the channels [height, width], and the grid ratio: power at period 2 over that at the next lower frequency, all channels together, the geometric
// mean of both axes. In one pass over the numbers, row by row as they lie: a stage holds a quarter of a million. `dims`: [1, channels, height, width].
export function overview(data, [, channels, height, width]) {
  const waves = n => { const angle = 2 * Math.PI * (n / 2 - 1) / n; return [Float64Array.from({length: n}, (_, i) => Math.cos(angle * i)), Float64Array.from({length: n}, (_, i) => Math.sin(angle * i))]; };
  const [cosX, sinX] = waves(width), [cosY, sinY] = waves(height), mean = new Float32Array(height * width);
  const sign = new Float64Array(width), re = new Float64Array(width), im = new Float64Array(width);  // of each column
  let halfX = 0, nextX = 0, halfY = 0, nextY = 0;
  for (let c = 0, at = 0; c < channels; c++) {
    sign.fill(0); re.fill(0); im.fill(0);
    for (let y = 0; y < height; y++) {
      const cosine = cosY[y], sine = sinY[y], up = y % 2 ? -1 : 1, line = y * width;
      let rowSign = 0, rowRe = 0, rowIm = 0, across = 1;
      for (let x = 0; x < width; x++, at++, across = -across) {
        const value = data[at];
        mean[line + x] += value / channels;
        rowSign += across * value; rowRe += cosX[x] * value; rowIm += sinX[x] * value;
        sign[x] += up * value; re[x] += cosine * value; im[x] += sine * value;
      }
      halfX += rowSign * rowSign;
      nextX += rowRe * rowRe + rowIm * rowIm;
    }
    for (let x = 0; x < width; x++) { halfY += sign[x] * sign[x]; nextY += re[x] * re[x] + im[x] * im[x]; }
  }
  const ratio = (half, next, lines) => (half / lines / channels + 1e-12) / (next / lines / channels + 1e-12);
  return {mean, ratio: Math.sqrt(ratio(halfX, nextX, height) * ratio(halfY, nextY, width))};
}

// A square cut out of [height, width], in grey: the smallest black, the largest white.
export function cutOut(values, width, row, column, side) {
  const cut = new Float32Array(side * side), grey = new Uint8ClampedArray(cut.length);
  for (let y = 0; y < side; y++) cut.set(values.subarray((row + y) * width + column, (row + y) * width + column + side), y * side);
  let low = Infinity, high = -Infinity;
  for (const v of cut) { low = Math.min(low, v); high = Math.max(high, v); }
  for (let i = 0; i < cut.length; i++) grey[i] = 255 * (cut[i] - low) / Math.max(high - low, 1e-9);
  return grey;
}

const gridNumber = ratio => ratio < 100 ? ratio.toFixed(2) : Math.round(ratio).toLocaleString('en');
export const gridWord = ratio => `${gridNumber(ratio)}, ${ratio >= GRID ? 'grid' : 'no grid'}`;

// {network: {stage: ratio}} in words.
export function gridSentence(ratios) {
  const grid = ratio => ratio >= GRID, rows = Object.entries(ratios);
  const said = rows.map(([name, {up1, logits}]) => `${name} has ${grid(up1) ? 'a' : 'no'} grid in its last up block (${gridNumber(up1)}) ` +
    `${grid(up1) === grid(logits) ? 'and' : 'but'} ${grid(logits) ? 'one' : 'none'} in its logits (${gridNumber(logits)})`);
  const tr = rows.filter(([name]) => name.split('-')[1] === 'tr').map(([, {up1}]) => grid(up1));
  return `In short, for the whole picture: ${said.join('; ')}.${tr.length && !tr.some(Boolean) ? ' So a transposed convolution (tr) need not leave one.' : ''}`;
}

export const gridMeaning = side => 'A transposed convolution (tr) writes four pixels for each coarse one, every one with a weight of its own, so a pattern may repeat every 2 pixels; ' +
  `nearest + conv (ups) starts from four equal copies. Each number is a ratio over the whole picture and all channels, not only over the ${side} × ${side} pixels shown: ` +
  `the strength of that pattern to that of the next coarser one. 1: both are equally strong, no grid. From ${GRID} on it is called a grid here. Near 0: neighbouring pixels are almost alike. ` +
  'What the logits (the numbers that are cut to a mask) do not have, the mask does not show. And each network was trained once: a difference between two masks may be its luck.';

export const READOUT = 'A readout is one weighted sum of the channels of a stage, fitted to say "pet". AUC is the chance that it puts a place of the pet above one of the background: ' +
  '0.5 is guessing, 1 is perfect. It is a figure of many photos, not of this one.';

// [{weights, bias, auc}] of each stage, from inside.json.
export function unpackReadouts({weights, channels, scale, bias, auc}) {
  const levels = Int8Array.from(atob(weights), c => c.charCodeAt(0));
  let at = 0;
  return channels.map((count, i) => ({weights: Float32Array.from(levels.subarray(at, at += count), v => v * scale[i]), bias: bias[i], auc: auc[i]}));
}

// How much pet a readout sees in every pixel of a stage, from 0 to 1.
export function readOut(data, [, channels, height, width], {weights, bias}) {
  const found = new Float32Array(height * width).fill(bias);
  for (let c = 0, at = 0; c < channels; c++) { const weight = weights[c]; for (let i = 0; i < found.length; i++, at++) found[i] += weight * data[at]; }
  for (let i = 0; i < found.length; i++) found[i] = Math.min(Math.max(found[i], 0), 1);
  return found;
}

// [rung, gains] in order, level 1 (full size) first: none, one more at a time, all. (Not an object: it would put the key '4' first.)
export function ladder(depth, deepestFirst = true) {
  const levels = Array.from({length: depth}, (_, k) => k + 1), order = deepestFirst ? [...levels].reverse() : levels;
  return [['none', Array(depth).fill(0)], ...levels.map(count => {
    const on = order.slice(0, count);
    return [count === depth ? 'all' : on.join('+'), levels.map(level => on.includes(level) ? 1 : 0)];
  })];
}

// {network: its row of inside.json} in words.
export function ladderSentence(known, photos) {
  const points = x => `${x < 0 ? '-' : '+'}${Math.abs(x).toFixed(1)}`, apart = [];
  const said = Object.entries(known).map(([name, row]) => {
    const [down, up] = ['ladder', 'ladder_finest_first'].map(key => row[key].map(rung => rung.iou)), [first, last] = [[down[1], down[0]], [up.at(-1), up.at(-2)]].map(([after, before]) => 100 * (after - before));
    apart.push(Math.abs(first - last) >= 1);
    return `${name} has ${down[0].toFixed(2)} without skips and ${down.at(-1).toFixed(2)} with all; its skip ${down.length - 1} adds ${points(first)} points as the first that is switched on, ${points(last)} as the last`;
  });
  return `In short, mean IoU over ${photos} validation photos: ${said.join('; ')}. ${apart.some(Boolean) ? 'The order matters.' : 'The order hardly matters here.'}`;
}

export function ladderMeaning(size, depth) {
  const deepest = Math.floor(size / 2 ** (depth - 1));
  return `Skip ${depth} is the deepest: it carries the smallest map, ${deepest} × ${deepest} pixels. Skip 1 is the finest, ${size} × ${size}. What one adds depends on which others are on: try both orders.`;
}

// The tensor [3, size, size] with a square under its mean colour.
export function hide(tensor, size, row, column, side) {
  const hidden = tensor.slice();
  for (let c = 0; c < 3; c++) {
    const plane = tensor.subarray(c * size * size, (c + 1) * size * size), mean = plane.reduce((a, b) => a + b, 0) / plane.length;
    for (let y = row; y < Math.min(row + side, size); y++) hidden.fill(mean, c * size * size + y * size + column, c * size * size + y * size + Math.min(column + side, size));
  }
  return hidden;
}

// ---- the panel ----------------------------------------------------------------------------------------------------------------
const VIEWS = {loupe: 'Loupe', readouts: 'Readouts', skips: 'Skips', square: 'Grey square', eight: 'All networks'};
const SIDE = 24;

export class Panel {
  // `tools`: {element, colourOf, sigmoid, toTensor, percent, squashed} of the playground.
  constructor(playground, known, tools) {
    Object.assign(this, tools, {playground, known, view: 'loupe', row: null, column: null, gains: null, deepestFirst: true, untrained: false, busy: 0, builtFor: ''});
    this.root = playground.$('.pg-inside-body');
    const {element} = this;
    this.choice = element('div', {className: 'pg-factor'});
    this.choice.setAttribute('role', 'radiogroup');
    this.choice.setAttribute('aria-label', 'View of the inside');
    for (const [name, text] of Object.entries(VIEWS)) {
      const input = element('input', {type: 'radio', name: 'pg-inside', value: name, onchange: () => this.choose(name)});
      this.choice.append(element('label', {className: 'pg-pill'}, input, element('span', {}, text)));
    }
    this.controls = element('div', {className: 'pg-inside-controls'});
    this.body = element('div', {className: 'pg-inside-view'});
    this.said = element('p', {className: 'pg-inside-said'});
    this.said.setAttribute('role', 'status');
    this.root.replaceChildren(this.said, this.choice, this.controls, this.body);
    this.warm();
  }

  // The browser compiles what paints while the network runs: the first painting is shorter. The numbers are fractions, as those of a network are: code that
  // was compiled for zeros would be thrown away at the first of them, and a stage would be read by the interpreter.
  warm() {
    const waves = Float32Array.from({length: 4096}, (_, i) => Math.max(0, Math.sin(i) + .5));
    for (let k = 0; k < 24; k++) {
      const grey = cutOut(overview(waves, [1, 4, 32, 32]).mean, 32, 4, 4, SIDE);
      this.canvas(SIDE, SIDE, i => [grey[i], grey[i], grey[i]]);
    }
  }

  get size() { return this.playground.size('a'); }
  get depth() { return this.playground.manifest.models[this.playground.state.variants.a].depth; }
  nets() { return this.playground.nets().filter(n => this.playground.state.results[n]?.stages); }
  model(net) { return this.playground.state.variants[net]; }

  // What a pass has to give for this view, and the gains it takes.
  wanted(depth = this.depth) { return this.view === 'loupe' ? Object.keys(LOUPE).filter(name => name !== 'logits') : this.view === 'readouts' ? stageNames(depth) : []; }
  gain(depth = this.depth) { return this.view === 'skips' && this.gains?.length === depth ? this.gains : undefined; }

  choose(view, update = true) {
    this.view = view in VIEWS ? view : 'loupe';
    if (view !== 'skips') this.gains = null;
    for (const input of this.choice.querySelectorAll('input')) input.checked = input.value === this.view;
    this.build();
    if (!update) return;
    ++this.playground.way;
    this.playground.update();  // another view needs other outputs
  }

  // Of the networks that are asked for.
  names() { return this.playground.nets().map(net => this.model(net)).join(); }

  // ---- controls
  build() {
    const {element} = this, start = Math.round(this.size / 3);
    this.builtFor = this.names();
    this.row ??= start;
    this.column ??= start;
    this.row = Math.min(this.row, this.size - SIDE);
    this.column = Math.min(this.column, this.size - SIDE);
    this.controls.replaceChildren();
    if (this.view === 'loupe' || this.view === 'square') {
      const what = this.view === 'loupe' ? 'Loupe' : 'Square';
      this.thumb = element('canvas', {className: 'pg-thumb'});
      this.thumb.setAttribute('role', 'img');
      this.thumb.setAttribute('aria-label', `Where the ${what.toLowerCase()} lies`);
      const move = event => {
        if (event.type === 'pointermove' && !event.buttons) return;
        const box = this.thumb.getBoundingClientRect(), at = (v, low, length) => Math.round((v - low) / length * this.size - SIDE / 2);
        this.place(at(event.clientY, box.top, box.height), at(event.clientX, box.left, box.width));
      };
      this.thumb.addEventListener('pointerdown', event => { this.thumb.setPointerCapture(event.pointerId); move(event); });
      this.thumb.addEventListener('pointermove', move);
      const slider = (name, key) => {
        const input = element('input', {type: 'range', min: 0, max: this.size - SIDE, value: this[key], className: `pg-inside-${key}`, disabled: this.fixed()});
        input.oninput = () => this.place(key === 'row' ? Number(input.value) : this.row, key === 'column' ? Number(input.value) : this.column);
        return element('label', {className: 'pg-control'}, element('span', {className: 'pg-label'}, `${what} ${name}`), input);
      };
      this.controls.append(this.thumb, element('div', {className: 'pg-inside-sliders'}, slider('across', 'column'), slider('down', 'row')));
      if (this.view === 'loupe') {
        const input = element('input', {type: 'checkbox', checked: this.untrained, className: 'pg-untrained', onchange: () => this.train(!input.checked)});
        this.controls.lastChild.append(element('div', {className: 'pg-factor'}, element('label', {className: 'pg-pill'}, input, element('span', {}, 'Untrained (random weights)'))));
        const other = this.playground.other(this.model('a'));
        if (!this.playground.state.compare && other !== this.model('a')) {
          const up = this.playground.variantOf(other).split('-')[1];
          this.controls.lastChild.append(element('button', {type: 'button', className: 'pg-button pg-other', onclick: () => this.otherUp(other)}, `Compare with ${up}: ${other}`));
        }
      }
    } else if (this.view === 'skips') {
      const boxes = element('div', {className: 'pg-factor'}), depth = this.depth;
      boxes.setAttribute('role', 'group');
      boxes.setAttribute('aria-label', 'Skip connections');
      if (this.gains?.length !== depth) this.gains = Array(depth).fill(1);
      for (let level = depth; level > 0; level--) {
        const input = element('input', {type: 'checkbox', value: level, checked: this.gains[level - 1] > 0, className: 'pg-skip'});
        input.onchange = () => { this.gains = this.gains.map((g, i) => i === level - 1 ? Number(input.checked) : g); this.playground.update(); };
        boxes.append(element('label', {className: 'pg-pill'}, input, element('span', {}, `Skip ${level}`)));
      }
      const set = gains => { this.gains = gains; boxes.querySelectorAll('input').forEach(box => { box.checked = gains[box.value - 1] > 0; }); };
      const rebuild = (order, deepestFirst) => element('button', {type: 'button', className: `pg-button pg-rebuild${deepestFirst ? '' : '-up'}`, onclick: () => this.rebuild(set, deepestFirst)}, `Rebuild ${order}`);
      this.controls.append(boxes, rebuild(`${depth} to 1`, true), rebuild(`1 to ${depth}`, false),
        element('button', {type: 'button', className: 'pg-button pg-all-on', onclick: () => { set(Array(depth).fill(1)); this.playground.update(); }}, 'All on'));
    }
  }

  otherUp(other) {
    this.playground.second(other);
    this.build();
    this.choice.querySelector('input:checked').focus();  // the button is gone
  }

  // An untrained network is stored for one place of each sample.
  fixed() { return this.view === 'loupe' && this.untrained; }

  train(trained) {
    this.untrained = !trained;
    for (const slider of this.controls.querySelectorAll('[type=range]')) slider.disabled = this.fixed();
    this.draw();
  }

  place(row, column) {
    if (this.fixed()) return;
    const most = this.size - SIDE, within = v => Math.min(Math.max(v, 0), most);
    this.row = within(row);
    this.column = within(column);
    for (const key of ['row', 'column']) this.controls.querySelector(`.pg-inside-${key}`).value = this[key];
    this.draw();
  }

  // ---- pictures
  figure(canvas, caption, label) {
    canvas.setAttribute('role', 'img');
    canvas.setAttribute('aria-label', label ?? caption);
    return this.element('figure', {}, canvas, this.element('figcaption', {}, caption));
  }

  canvas(width, height, colour) {
    return this.fill(this.element('canvas', {width, height}), colour);
  }

  fill(canvas, colour) {
    const {width, height} = canvas, image = new ImageData(width, height), {data} = image;
    for (let i = 0, at = 0; i < width * height; i++) {
      const c = colour(i);
      data[at++] = c[0]; data[at++] = c[1]; data[at++] = c[2]; data[at++] = 255;
    }
    canvas.getContext('2d').putImageData(image, 0, 0);
    return canvas;
  }

  map(values, width) { const table = this.table ??= Array.from({length: 256}, (_, k) => this.colourOf(k / 255)); return this.canvas(width, values.length / width, i => table[Math.round(255 * values[i])]); }

  // What the network gets, as the page has painted it.
  picture() { return this.playground.panel('input').querySelector('canvas'); }

  thumbnail() {
    const {size} = this, pen = Object.assign(this.thumb, {width: size, height: size}).getContext('2d');
    pen.drawImage(this.picture(), 0, 0);
    for (const [colour, width] of [['#000', 3], ['#fff', 1]]) { pen.strokeStyle = colour; pen.lineWidth = width; pen.strokeRect(this.column + .5, this.row + .5, SIDE - 1, SIDE - 1); }
  }

  hint(text) { return this.element('p', {className: 'pg-hint pg-inside-hint'}, text); }

  tell(text) { if (this.said.textContent !== text) this.said.textContent = text; }

  // Draws what the last pass gave; computes nothing that needs the network, except for the square.
  draw() {
    if (this.view !== 'eight' && (!this.nets().length || this.nets().length < this.playground.nets().length)) { this.body.replaceChildren(); return this.tell('Run the network first: the views show what is inside it for this picture.'); }
    if (this.builtFor !== this.names()) this.build();
    const begun = performance.now();
    if (this.thumb?.isConnected) this.thumbnail();
    Promise.resolve(this[this.view]()).catch(error => this.playground.fail(error.message));
    this.painted = performance.now() - begun;
  }

  loupe() {
    if (this.untrained) return this.fresh();
    const rows = [], {row, column} = this;
    for (const net of this.nets()) {
      const result = this.playground.state.results[net];
      if (!result.stages.up1) return;
      result.inside ??= Object.fromEntries(Object.keys(LOUPE).map(stage => {
        const {data, dims} = stage === 'logits' ? {data: result.logits, dims: [1, 1, result.size, result.size]} : result.stages[stage];
        return [stage, {...overview(data, dims), width: dims[3]}];
      }));
      rows.push([result.variant, Object.entries(result.inside).map(([stage, {mean, width, ratio}]) => [stage, ratio, cutOut(mean, width, row, column, SIDE)])]);
    }
    this.lay(rows);
  }

  // [network, [stage, ratio of the whole, the part in grey]]: a row for each network.
  lay(rows) {
    const parts = [], ratios = {}, {row, column} = this;
    for (const [name, found] of rows) {
      ratios[name] = Object.fromEntries(found.map(([stage, ratio]) => [stage, ratio]));
      const cut = this.element('canvas', {width: SIDE, height: SIDE});
      cut.getContext('2d').drawImage(this.picture(), column, row, SIDE, SIDE, 0, 0, SIDE, SIDE);
      const line = this.element('div', {className: 'pg-loupe'}, this.figure(cut, 'picture', `${name}: the picture under the loupe`));
      for (const [stage, ratio, grey] of found) {
        const text = gridWord(ratio);
        line.append(this.figure(this.canvas(SIDE, SIDE, i => [grey[i], grey[i], grey[i]]), `${LOUPE[stage].replace('convolution', 'convo\u00adlution')}: ${text}`, `${name}, ${LOUPE[stage]}; grid ratio of the whole picture ${text}`));
      }
      parts.push(this.element('p', {className: 'pg-inside-name'}, name), line);
    }
    this.body.replaceChildren(...parts, this.hint(gridMeaning(SIDE)));
    this.tell(gridSentence(ratios));
  }

  // The networks before their training, at the place that was stored when the page was made: a row is a network, a column a stage.
  async fresh() {
    const {playground} = this, {picture} = playground.state, stored = picture.sample?.untrained, names = this.nets().map(net => this.model(net));
    if (!names.every(name => name in (stored?.rows ?? {}))) {
      this.body.replaceChildren();
      return this.tell("Untrained networks are stored for the course's own networks on the sample pictures. For others, run explore() in a notebook; chapter 01 shows the up blocks at random weights.");
    }
    const image = Object.assign(new Image(), {src: playground.base + stored.file}), {side, rows, ratios} = stored;
    const came = await image.decode().then(() => true, () => false);
    if (playground.state.picture !== picture || !this.fixed() || this.nets().map(net => this.model(net)).join() !== names.join()) return;
    if (!came) return this.tell('The untrained networks could not be loaded. Look at your connection, then choose them again.');
    const pen = Object.assign(this.element('canvas'), {width: image.width, height: image.height}).getContext('2d', {willReadFrequently: true});
    pen.drawImage(image, 0, 0);
    for (const key of ['row', 'column']) this.controls.querySelector(`.pg-inside-${key}`).value = this[key] = stored[key];
    this.thumbnail();
    this.lay(names.map(name => [`untrained ${name}`, Object.keys(LOUPE).map((stage, k) =>
      [stage, ratios[rows[name]][stage], pen.getImageData(side * k, side * rows[name], side, side).data.filter((_, i) => i % 4 === 0)])]));
  }

  readouts() {
    const parts = [];
    for (const net of this.nets()) {
      const result = this.playground.state.results[net], {depth} = this.playground.manifest.models[result.variant], names = stageNames(depth), row = this.known.networks[result.variant];
      if (!row) { parts.push(this.element('p', {}, `There are no readouts of ${result.variant}: they are fitted for the course's own networks.`)); continue; }
      if (!result.stages.bottleneck) return;
      result.readouts ??= names.map((name, i) => ({name, ...result.stages[name], ...unpackReadouts(row.readout)[i]}));
      const grid = this.element('div', {className: 'pg-u'});
      for (const {name, data, dims, weights, bias, auc} of result.readouts) {
        const figure = this.figure(this.map(readOut(data, dims, {weights, bias}), dims[3]), `${name}, AUC ${auc.toFixed(2)}`, `${result.variant}, ${name}: ${dims[1]} channels of ${dims[2]} × ${dims[3]}, readout AUC ${auc.toFixed(2)}`);
        const level = name === 'bottleneck' ? depth + 1 : Number(name.at(-1));
        Object.assign(figure.style, {gridRow: level, gridColumn: name === 'bottleneck' ? '1 / 3' : name.startsWith('encoder') ? '1' : '2'});
        if (name === 'bottleneck') figure.className = 'pg-bottom';
        figure.title = `${dims[1]} channels of ${dims[2]} × ${dims[3]}; AUC ${auc.toFixed(3)}`;
        grid.append(figure);
      }
      parts.push(this.element('div', {}, this.element('p', {className: 'pg-inside-name'}, result.variant), grid));
    }
    this.body.replaceChildren(this.element('div', {className: 'pg-us'}, ...parts), this.hint(READOUT));
    const rows = this.nets().map(net => [this.model(net), this.known.networks[this.model(net)]]).filter(([, row]) => row);
    this.tell(!rows.length ? '' : `In short: over ${this.known.checked} validation photos ${rows.map(([name, {readout: {auc}}]) => `the AUC of ${name} goes from ${auc[0].toFixed(2)} in the first encoder stage to ${auc[(auc.length - 1) / 2].toFixed(2)} in the bottleneck and ${auc.at(-1).toFixed(2)} in the last decoder stage`).join('; ')}.`);
  }

  skips() {
    const on = this.gains.map((g, i) => g ? i + 1 : 0).filter(Boolean).reverse(), rows = this.nets().map(net => [this.model(net), this.known.networks[this.model(net)]]).filter(([, row]) => row);
    const now = step => step.for === this.playground.state.picture && this.nets().some(net => this.model(net) === step.variant);
    if (!this.steps?.every(now)) this.steps = null;
    const parts = this.steps ? [this.element('div', {className: 'pg-loupe'}, ...this.steps.map(({name, values, size, net}) => this.figure(this.map(values, size), `${net}${name}`, `${net}skip connections: ${name}; probability of pet`)))] : [];
    this.body.replaceChildren(...parts, this.hint(ladderMeaning(this.size, this.depth)), ...rows.length ? [this.worth(rows)] : [],
      this.hint('This is what these trained networks use, not what a network trained without a connection could do.'));
    const shares = this.nets().map(net => `${this.model(net)} ${this.percent(this.playground.state.results[net].share)} pet`).join(', ');
    this.tell(`${rows.length ? `${ladderSentence(Object.fromEntries(rows), this.known.checked)} ` : ''}Skip connections on: ${on.length === this.depth ? 'all' : on.join(', ') || 'none'}; the masks above are made with these: ${shares}.`);
  }

  // What the rungs of the order that was rebuilt last are worth.
  worth(rows) {
    const {element} = this, key = this.deepestFirst ? 'ladder' : 'ladder_finest_first', line = (head, ...cells) => element('tr', {}, element('th', {scope: 'row'}, head), ...cells.map(text => element('td', {}, text)));
    const names = ['skips on', ...rows.flatMap(([name]) => [`${name}: IoU`, 'boundary IoU'])].map(text => element('th', {scope: 'col'}, text));
    return element('div', {className: 'pg-ladder'}, element('table', {}, element('caption', {}, `mean over ${this.known.checked} validation photos`), element('thead', {}, element('tr', {}, ...names)),
      element('tbody', {}, ...rows[0][1][key].map(({skips}, i) => line(skips, ...rows.flatMap(([, row]) => [row[key][i].iou.toFixed(2), row[key][i].boundary.toFixed(2)]))))));
  }

  // Rung after rung: each in its thumbnail, the last one in the masks.
  async rebuild(set, deepestFirst) {
    const {playground} = this, turn = playground.turn + 1, steps = [];
    await playground.update();  // what is under way ends first
    if (turn !== playground.turn) return;
    const {picture} = playground.state;
    this.deepestFirst = deepestFirst;
    for (const [name, gains] of ladder(this.depth, deepestFirst)) for (const net of playground.nets()) {
      const {variant, size} = playground.state.results[net] ?? {};
      if (!variant) return;
      const found = await playground.networks.run(variant, playground.state.backend, this.toTensor(picture.squashed.get(size), size), gains);
      if (turn !== playground.turn) return;  // something else has been asked for since
      steps.push({name, variant, net: playground.state.compare ? `${net.toUpperCase()} ` : '', size, values: found.logits.map(this.sigmoid), for: picture});
      this.steps = [...steps].sort((a, b) => a.net < b.net ? -1 : a.net > b.net ? 1 : 0);
      set(gains);
      this.skips();
      await new Promise(done => setTimeout(done));  // it is painted, and clicks are heard
    }
    if (turn !== playground.turn) return;
    await playground.update();
  }

  async square() {
    const {playground, row, column} = this, turn = ++this.busy, {picture, results} = playground.state, {size} = results.a, side = SIDE, parts = [], said = [];
    const hidden = hide(this.toTensor(picture.squashed.get(size), size), size, row, column, side);
    await playground.networks.last.catch(() => null);  // while the square is dragged, only its last place is asked for
    if (turn !== this.busy) return;
    const colours = v => v < 0 ? [255 * (1 + v), 255 * (1 + .7 * v), 255] : [255, 255 * (1 - .55 * v), 255 * (1 - v)];
    for (const net of this.nets().filter(net => results[net].size === size)) {  // the place is in A's pixels
      const {variant, logits} = results[net], found = await playground.networks.run(variant, playground.state.backend, hidden);
      if (turn !== this.busy || playground.state.picture !== picture || this.view !== 'square') return;
      const change = found.logits.map((v, i) => this.sigmoid(v) - this.sigmoid(logits[i]));
      let near = 0, far = 0;
      change.forEach((v, i) => {
        const y = Math.floor(i / size), x = i % size, out = y < row - side || y >= row + 2 * side || x < column - side || x >= column + 2 * side;
        if (Math.abs(v) > .1) { near += 1; far += out; }
      });
      parts.push(this.element('p', {className: 'pg-inside-name'}, variant), this.element('div', {className: 'pg-loupe pg-pair'},
        this.figure(this.canvas(size, size, i => [0, 1, 2].map(c => 255 * hidden[c * size * size + i])), 'the picture with its square'),
        this.figure(this.canvas(size, size, i => colours(change[i])), 'change of the probability: orange more pet, blue less', `${variant}: change of the probability`)));
      said.push(`${this.percent(near / change.length)} of the pixels change by more than 0.1 in ${variant}, ${this.percent(far / change.length)} of all pixels far from the square`);
    }
    this.body.replaceChildren(...parts);
    this.tell(`In short: ${said.join('; ')}.`);
  }

  // Every network on a sample picture: the masks were stored when the page was made, one below the other in one picture of 1 bit a pixel.
  async eight() {
    const {playground} = this, picture = playground.state.picture, {manifest, base} = playground, stored = picture.sample?.all;
    if (!stored) {
      this.body.replaceChildren();
      return this.tell('The masks of all networks are stored for the sample pictures. For a picture of your own, run explore() in a notebook.');
    }
    const image = Object.assign(new Image(), {src: base + stored.file}), {size} = stored;
    const [came, bytes] = await Promise.all([image.decode().then(() => true, () => false), this.squashed(picture, size)]);
    if (playground.state.picture !== picture || this.view !== 'eight') return;
    if (!came) return this.tell('The masks of all networks could not be loaded. Look at your connection, then choose the view again.');
    const pen = this.element('canvas', {width: size, height: size * stored.models.length}).getContext('2d', {willReadFrequently: true});
    pen.drawImage(image, 0, 0);
    const figures = stored.models.map((name, k) => {
      const mask = pen.getImageData(0, size * k, size, size).data, iou = stored.iou?.[k];
      const text = `${name}: ${this.percent(stored.share[k])} pet${iou === undefined ? '' : `, IoU\u00a0${iou.toFixed(2)}`}`;
      return this.figure(this.canvas(size, size, i => {
        const pet = mask[4 * i] > 127, grey = (bytes[3 * i] + bytes[3 * i + 1] + bytes[3 * i + 2]) / 3;
        return pet ? [.6 * grey + 102, .6 * grey + 80, .6 * grey + 20] : [.3 * grey, .3 * grey, .3 * grey];
      }), text, `Mask of ${text}`);
    });
    this.body.replaceChildren(this.element('div', {className: 'pg-loupe pg-eight'}, ...figures));
    const range = values => `from ${Math.min(...values).toFixed(2)} to ${Math.max(...values).toFixed(2)}`, tests = stored.models.map(name => manifest.models[name].test);
    const here = stored.iou ? `the IoU on this picture goes ${range(stored.iou)}` : `the networks call ${this.percent(Math.min(...stored.share))} to ${this.percent(Math.max(...stored.share))} of this picture pet`;
    const everywhere = tests.every(Boolean) ? `; over ${tests[0].images.toLocaleString('en')} test photos the mean IoU goes ${range(tests.map(test => test.iou))}` : '';
    this.tell(`In short: ${here}${everywhere}.`);
  }
}
