// A network that reads one character after another: the operations of charrnn.nn.modules.program, in order.

const PANEL = 32;
const NEVER = Math.fround(-1e30); // the logit of what is never written
const whole = (n, unit = PANEL) => Math.ceil(n / unit) * unit;

// Memory in which all networks and kernels live: `weights` as the page brings them, then room that grows.
class Memory {
  constructor(model, weights, room) {
    this.end = 65536; // kernels have what is below: their constants and their stack
    this.places = {};
    for (const [name, { numbers }] of Object.entries(model.arrays)) {
      this.places[name] = this.end;
      this.end += 4 * whole(numbers, 16);
    }
    const pages = Math.ceil((this.end + room) / 65536) + 1;
    try {
      this.wasm = new WebAssembly.Memory({ initial: pages });
      this.buffer = this.wasm.buffer;
    } catch {
      this.buffer = new ArrayBuffer(pages * 65536);
    }
    this.floats = new Float32Array(this.buffer);
    const words = new Uint32Array(this.buffer);
    for (const [name, { at, numbers, half }] of Object.entries(model.arrays)) {
      const to = this.places[name] / 4;
      if (half) {
        const from = new Uint16Array(weights, at, numbers);
        for (let i = 0; i < numbers; i++) words[to + i] = from[i] << 16;
      } else this.floats.set(new Float32Array(weights, at, numbers), to);
    }
  }

  take(numbers) {
    const place = this.end;
    this.end += 4 * whole(numbers + 4, 16); // kernels may compute up to a whole vector
    return place;
  }

  row(place, numbers) {
    return this.floats.subarray(place / 4, place / 4 + numbers);
  }
}

// The most bytes that the networks of a model take beside its weights.
function roomOf(model) {
  let numbers = 0;
  for (const [, width] of model.operations) numbers += 2 * whole(width) + 64;
  for (const [kind, width] of model.operations)
    if (kind === "lookup") numbers += (model.outputs + 2) * (whole(width) + 32);
  return 8 * numbers * (model.columns.length ? 2 : 1) + 65536;
}

class Network {
  constructor(model, memory, kernels, counts) {
    Object.assign(this, { model, memory, kernels });
    this.vocabSize = model.outputs;
    this.biases = {};
    this.tables = [];
    this.known = new Uint8Array(model.outputs + 1);
    this.at = new Int32Array(model.operations.length); // where each value is
    this.states = model.states.map((widths) => widths.map((n) => memory.take(n)));
    this.context = null;
    const first = this.states[0][0], ends = memory.end;
    this.state = memory.floats.subarray(first / 4, ends / 4);
    this.steps = model.operations.map((operation, n) => this.operation(n, operation, counts));
    const last = model.operations.length - 1;
    this.logits = counts ? new Float32Array(this.vocabSize) : memory.row(this.at[last], this.vocabSize);
    this.counts = counts;
    this.label([]);
  }

  // A bias of its own if labels change it.
  bias(name) {
    if (!(name in this.model.labelled)) return this.memory.places[name];
    return (this.biases[name] ??= this.memory.take(this.model.arrays[name].numbers));
  }

  // Let it write texts with these labels: one id for each column, beyond the last if it is unknown.
  label(labels) {
    const { memory, model } = this, r = Math.fround;
    for (const [name, place] of Object.entries(this.biases)) {
      const bias = memory.row(place, model.arrays[name].numbers);
      bias.set(memory.row(memory.places[name], bias.length));
      labels.forEach((label, column) => {
        const { array, width } = model.labelled[name][column];
        if (label >= model.columns[column].labels.length) return;
        const more = memory.row(memory.places[array] + 4 * label * width, width);
        for (let j = 0; j < width; j++) bias[j] = r(bias[j] + more[j]);
      });
    }
    this.labels = this.counts ? [...this.counts.given, ...this.counts.symbolsOf(labels)] : [];
    this.known.fill(0);
  }

  operation(n, [kind, width, ...rest], counts) {
    const { memory, kernels, at } = this, places = memory.places;
    if (kind === "hidden") {
      at[n] = this.states[rest[0]][0];
      return null;
    }
    if (kind === "lookup") {
      const size = whole(width), rows = memory.take((this.vocabSize + 1) * size);
      this.tables.push({ rows, size, width, fill: this.lookup(width, size, ...rest) });
      return (character) => { at[n] = rows + 4 * character * size; };
    }
    if (kind === "advance") {
      const [layer, cell, u, w] = rest, [h, c] = this.states[layer];
      at[n] = h;
      if (cell === "lstm") return () => kernels.lstm(at[u], at[w], h, c, width);
      if (cell === "gru") return () => kernels.gru(at[u], at[w], h, width);
      const relu = cell === "rnn_relu" ? 1 : 0;
      return () => kernels.rnn(at[u], at[w], h, width, relu);
    }
    if (kind === "mix") {
      const [x, order] = rest, logits = memory.row(at[x], width);
      this.context = new Int32Array(order - 1).fill(-1);
      return (character) => {
        this.context.copyWithin(0, 1);
        this.context[order - 2] = character;
        counts.mix(this.logits, logits, this.context, this.labels);
      };
    }
    const y = at[n] = memory.take(whole(width));
    if (kind === "sum") {
      const [a, b] = rest;
      return () => kernels.add(y, at[a], at[b], width);
    }
    const [x, weight, bias] = rest, w = places[weight], b = this.bias(bias);
    if (kind === "norm") return () => kernels.norm(y, at[x], w, b, width);
    const K = this.model.operations[x][1], panels = whole(width) / PANEL;
    return () => kernels.product(y, at[x], w, b, K, panels);
  }

  // What fills the row of a character: W x + b, or x where there is no W. START is the zero vector.
  lookup(width, size, embedding, weight, bias) {
    const { memory, kernels } = this, { places } = memory, b = bias && this.bias(bias);
    const vectors = embedding && this.model.arrays[embedding].width;
    const zeros = memory.take(size);
    return (row, character) => {
      const values = memory.row(row, size).fill(-0);
      if (bias) values.set(memory.row(b, width));
      if (character >= this.model.inputs) return;
      const x = embedding && places[embedding] + 4 * character * vectors;
      if (!weight && !embedding) values[character] = 1;
      else if (!weight) values.set(memory.row(x, width));
      else if (embedding) {
        const sum = memory.row(zeros, size);
        kernels.product(zeros, x, places[weight], row, vectors, size / PANEL);
        values.set(sum);
      } else kernels.add(row, row, places[weight] + 4 * character * this.model.arrays[weight].width, width);
    };
  }

  begin() {
    this.state.fill(0);
    if (this.context) this.context.fill(-1);
  }

  save() {
    return [this.state.slice(), this.context && this.context.slice()];
  }

  restore([state, context]) {
    this.state.set(state);
    if (context) this.context.set(context);
  }

  // Read a character, or START, whose id is beyond the last: `logits` are those of the next one.
  step(character) {
    if (!this.known[character]) {
      for (const { rows, size, fill } of this.tables) fill(rows + 4 * character * size, character);
      this.known[character] = 1;
    }
    for (const step of this.steps) if (step) step(character);
    if (this.model.never >= 0) this.logits[this.model.never] = NEVER;
    return this.logits;
  }
}

// A network that knows labels, led away from one that does not: log q + strength (log p - log q).
class Led {
  constructor(network, other) {
    Object.assign(this, { network, other, vocabSize: network.vocabSize });
    this.logits = new Float64Array(this.vocabSize);
    this.p = new Float64Array(this.vocabSize);
  }

  begin() {
    this.network.begin();
    this.other.begin();
  }

  save() {
    return [this.network.save(), this.other.save()];
  }

  restore([state, other]) {
    this.network.restore(state);
    this.other.restore(other);
  }

  step(character) {
    const { logits, p } = this, logarithm = (x) => (x > 0 ? Math.log(x) : -Infinity);
    probabilities(logits, this.network.step(character), 1);
    probabilities(p, this.other.step(character), 1);
    for (let i = 0; i < p.length; i++) {
      logits[i] = logarithm(logits[i]);
      const q = logarithm(p[i]);
      if (logits[i] > -Infinity && q > -Infinity) logits[i] = q + this.strength * (logits[i] - q);
    }
    return logits;
  }
}
