// What counts say of the next character, and how the gate mixes it with the network's logits.
// The arithmetic is that of charrnn.counts.lookup and mixing.

const LABEL_SHARE = 0.6;
const UNIT = 4096, GATE_UNITS = 16, GATE_CONTEXTS = 9, GATE_INPUTS = 13, GATE_LONG = 7;
const LOG2_SERIES = [
  1.4425531436, -0.7182818984, 0.4582707065, -0.2795379275, 0.1234512844, -0.0264573772,
].map(Math.fround);

class Counts {
  constructor(model, weights) {
    const r = Math.fround;
    for (const [name, { at, numbers, bytes }] of Object.entries(model.counts.arrays))
      this[name] = new { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array }[bytes](weights, at, numbers);
    const { order, labels, given } = model.counts;
    Object.assign(this, { order, size: model.outputs, labels, given });
    const discounts = [...this.discounts, ...(this.label_discounts ?? [])];
    const sums = (sizes, first) => {
      const ends = new Uint32Array(sizes.length + 1);
      ends[0] = first;
      for (let n = 0; n < sizes.length; n++) ends[n + 1] = ends[n] + sizes[n];
      return ends;
    };
    const nodes = this.symbols.length;
    this.child = new Uint32Array(nodes + 1).fill(nodes);
    this.child.set(sums(this.children, 1));
    this.begin = sums(this.successors, 0);
    this.own = Array.from({ length: discounts.length / 3 }, (_, k) =>
      Float64Array.from(this.count_values, (value) => value * UNIT - discounts[3 * k + Math.min(value, 3) - 1]));
    const { at, numbers } = model.counts.gate, gate = new Float32Array(weights, at, numbers);
    const cuts = [0, GATE_INPUTS * GATE_UNITS, (GATE_INPUTS + 1) * GATE_UNITS, (GATE_INPUTS + 2) * GATE_UNITS];
    [this.weight, this.bias, this.output] = [0, 1, 2].map((n) => gate.subarray(cuts[n], cuts[n + 1]));
    [this.shift, this.longSpan] = gate.subarray(cuts[3]);
    this.p = new Float64Array(this.size);
    this.row = new Float64Array(this.size);
    this.e = new Float32Array(this.size);
    this.told = new Float32Array(order + 1);
    this.bits = new Int32Array(new Float32Array(1).buffer);
    this.bit = new Float32Array(this.bits.buffer);
    this.words = new Int32Array(new Float64Array(1).buffer);
    this.long = new Float64Array(this.words.buffer);
    this.r = r;
  }

  log2(x) {
    const { r } = this;
    this.bit[0] = x;
    const bits = this.bits[0];
    this.bits[0] = (bits & 0x7fffff) | 0x3f800000;
    const t = r(this.bit[0] - 1);
    let y = r(LOG2_SERIES[5] * t);
    for (let n = 4; n >= 0; n--) y = r(t * r(LOG2_SERIES[n] + y));
    return r((bits >> 23) - 127 + y);
  }

  // The nodes of the last 0, 1, .. characters, perhaps behind a label.
  nodes(context, label = null) {
    const found = [0], symbols = [...(label === null ? [] : [label]), ...Array.from(context).reverse()];
    let node = 0;
    for (const symbol of symbols) {
      let low = this.child[node];
      const end = this.child[node + 1];
      for (let high = end; low < high; ) {
        const middle = (low + high) >> 1;
        if (this.symbols[middle] < symbol) low = middle + 1;
        else high = middle;
      }
      if (low === end || this.symbols[low] !== symbol) break;
      found.push((node = low));
    }
    return found;
  }

  // The symbols of labels, one id for each column, beyond the last if it is unknown.
  symbolsOf(ids) {
    const found = [];
    let first = this.size + 1;
    this.labels.forEach((size, column) => {
      if (ids[column] < size) found.push(first + ids[column]);
      first += size;
    });
    return found;
  }

  // p of what follows becomes that in texts with a label.
  lookBehind(p, label, context) {
    const [, ...found] = this.nodes(context, label), factors = [];
    if (!found.length) return;
    let left = LABEL_SHARE;
    for (let k = found.length - 1; k >= 0; k--) {
      const scale = this.scale(found[k], this.order + k);
      factors.push([k, left * scale]);
      left *= this.mass_values[this.masses[found[k]]] * scale;
    }
    const whole = (1 - LABEL_SHARE) + left;
    for (let i = 0; i < this.size; i++) p[i] *= whole;
    for (const [k, factor] of factors) this.add(p, found[k], this.order + k, factor);
  }

  // 1 / total of a context of k characters, or of k - n behind a label.
  scale(node, k) {
    let sum = this.mass_values[this.masses[node]];
    for (let n = this.begin[node]; n < this.begin[node + 1]; n++) sum += this.own[k][this.codes[n]];
    return 1 / sum;
  }

  add(p, node, k, scale) {
    for (let n = this.begin[node]; n < this.begin[node + 1]; n++)
      p[this.following[n]] += this.own[k][this.codes[n]] * scale;
  }

  // p of what follows the context in texts with these labels, and what the gate is told of it.
  predict(context, labels) {
    const { p, told, r, size, order } = this, found = this.nodes(context), most = found.length - 1;
    const mass = (k) => this.mass_values[this.masses[found[k]]];
    const scales = found.map((node, k) => this.scale(node, k));
    const first = Math.min(most, 1);
    p.fill((1 / size) * (mass(0) * scales[0]));
    this.add(p, 0, 0, scales[0]);
    if (first) {
      const share = mass(1) * scales[1];
      for (let i = 0; i < size; i++) p[i] *= share;
      this.add(p, found[1], 1, scales[1]);
    }
    let left = 1;
    const factors = [];
    for (let k = most; k > first; k--) {
      factors.push([k, left * scales[k]]);
      left *= mass(k) * scales[k];
    }
    for (let i = 0; i < size; i++) p[i] *= left;
    for (const [k, factor] of factors) this.add(p, found[k], k, factor);
    for (const label of labels) this.lookBehind(p, label, context);
    const LN2 = r(1 / 1.4426950408889634);
    for (let k = 1; k < order; k++)
      told[k - 1] = k <= most ? r(this.log2(r(1 + r(r(1 / UNIT) / r(scales[k])))) * LN2) : 0;
    let entropy = 0, largest = 0;
    for (let i = 0; i < size; i++) {
      const x = r(p[i]);
      entropy += Math.trunc(r(r(x * this.log2(x)) * 67108864));
      if (x > largest) largest = x;
    }
    told[order - 1] = largest;
    told[order] = r(r(r(-entropy) / 67108864) * LN2);
  }

  // out = log p after the context, from the network's logits.
  mix(out, logits, context, labels) {
    const { p, e, told, r, size } = this;
    this.predict(context, labels);
    const most = greatest(logits), lanes = new Float64Array(16), products = new Float64Array(16);
    for (let i = 0; i < size; i++) {
      const apart = r(logits[i] - most), x = apart > -87 ? apart : -87;
      e[i] = exp32(x);
      lanes[i & 15] += e[i];
      products[i & 15] += r(e[i] * x);
    }
    const sum = total(lanes);
    const top = r(this.log2(r(sum)) * r(1 / 1.4426950408889634));
    const entropy = r(top - r(total(products) / sum));
    const weight = this.opened(told, top, entropy), left = (1 - weight) / sum;
    for (let i = 0; i < size; i++) out[i] = this.log(weight * p[i] + left * e[i]);
  }

  opened(told, top, entropy) {
    const { r, order } = this, inputs = new Float32Array(GATE_INPUTS);
    inputs.set(told.subarray(0, Math.min(order - 1, GATE_CONTEXTS)));
    inputs.set([told[order - 1], told[order], top, entropy], GATE_CONTEXTS);
    let sum = 0;
    for (let j = 0; j < GATE_UNITS; j++) {
      let unit = -0;
      for (let n = 0; n < GATE_INPUTS; n++) unit = r(unit + r(inputs[n] * this.weight[n * GATE_UNITS + j]));
      const told = r(tanh32(r(unit + this.bias[j])) * this.output[j]);
      sum = j ? r(sum + told) : told;
    }
    const lowest = r(1 / 1024), most = inputs[GATE_LONG - 1] > 0 ? this.longSpan : 1 - 1 / 1024 - 1 / 1024;
    const sigmoid = r(r(0.5 * tanh32(r(0.5 * r(sum + this.shift)))) + 0.5);
    return r(r(sigmoid * r(most)) + lowest);
  }

  // log x of a normal positive number.
  log(x) {
    this.long[0] = x;
    const [low, high] = this.words, borrow = low >>> 0 < 0x667f3bcd ? 1 : 0;
    const exponent = (high - 0x3fe6a09e - borrow) >> 20; // of what stands above the bits of sqrt(1/2)
    this.words[1] = high - (exponent << 20);
    const m = this.long[0], f = (m - 1) / (m + 1), square = f * f;
    let series = (1 / 13) * square;
    for (const divisor of [11, 9, 7, 5, 3]) series = (series + 1 / divisor) * square;
    series += 1;
    return exponent * (1 / 1.4426950408889634) + (f + f) * series;
  }
}

const EXP_SERIES = [1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1, 1].map(Math.fround);

// e^x of float32, for -87 <= x <= 0.
function exp32(x) {
  const r = Math.fround, n = Math.floor(r(r(x * r(1.4426950408889634)) + 0.5));
  const rest = r(r(x - r(n * r(0.693359375))) - r(n * r(-2.12194440e-4)));
  let y = EXP_SERIES[0];
  for (let k = 1; k < 7; k++) y = r(r(y * rest) + EXP_SERIES[k]);
  return r(y * POWERS[n + 1022]);
}
