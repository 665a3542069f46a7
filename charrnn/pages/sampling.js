// Logits -> one character, given a uniform number: charrnn.inference.sampling and filters, in the same order.

const LEAST_EXPONENT = -708, LOG2_E = 1 / Math.LN2, ROUND = 1.5 * 2 ** 52 + 1023;
const POWERS = Float64Array.from({ length: 2046 }, (_, n) => 2 ** (n - 1022));

function exp(x) {
  if (!(x >= LEAST_EXPONENT)) return x < LEAST_EXPONENT ? 0 : x;
  const exponent = x * LOG2_E, rounded = exponent + ROUND - ROUND;
  const rest = (exponent - rounded) * Math.LN2, square = rest * rest;
  const even = (square * 30 + 3360) * square + 30240;
  const odd = ((square + 420) * square + 15120) * rest;
  return ((even + odd) / (even - odd)) * POWERS[rounded + 1022];
}

function greatest(x) {
  let found = -Infinity;
  for (let i = 0; i < x.length; i++) if (x[i] > found) found = x[i];
  return found;
}

function argmax(x) {
  let best = 0;
  for (let i = 1; i < x.length; i++)
    if (x[i] > x[best] || (x[best] !== x[best] && x[i] === x[i])) best = i;
  return best;
}

function total(p) {
  let found = 0;
  for (let i = 0; i < p.length; i++) found += p[i];
  return found;
}

// p = softmax(logits / temperature); see the Python function for infinite logits and NaN.
function probabilities(p, logits, temperature) {
  const most = greatest(logits);
  for (let i = 0; i < p.length; i++) {
    const logit = logits[i];
    p[i] = exp(logit === most ? 0 : logit < most ? (logit - most) / temperature : -Infinity);
  }
  const sum = total(p);
  for (let i = 0; i < p.length; i++) p[i] = sum > 0 ? p[i] / sum : 1 / p.length;
}

// Keep the most probable, the fewest whose p sums to `wanted`; 1 to `most`.
function keepFirst(p, most, wanted, heap) {
  const precedes = (a, b) => p[a] > p[b] || (p[a] === p[b] && a < b);
  const siftDown = (root, size) => {
    const moved = heap[root];
    for (let child = 2 * root + 1; child < size; child = 2 * root + 1) {
      if (child + 1 < size && precedes(heap[child + 1], heap[child])) child++;
      if (!precedes(heap[child], moved)) break;
      heap[root] = heap[child];
      root = child;
    }
    heap[root] = moved;
  };
  const n = p.length;
  let size = n, kept = 0;
  for (let i = 0; i < n; i++) heap[i] = i;
  for (let root = (n >> 1) - 1; root >= 0; root--) siftDown(root, n);
  while (size > n - most && (kept < wanted || size === n)) {
    kept += p[heap[0]];
    heap[0] = heap[--size];
    siftDown(0, size);
  }
  for (let i = 0; i < size; i++) p[heap[i]] = 0;
}

class Sampler {
  constructor(size, { temperature, top_k, top_p, min_p }) {
    Object.assign(this, { temperature, top_k, top_p, min_p });
    this.p = new Float64Array(size);
    this.heap = new Int32Array(size);
  }

  sample(logits, uniform) {
    const { p } = this;
    if (this.temperature === 0) return argmax(logits);
    probabilities(p, logits, this.temperature);
    if (this.top_k && this.top_k < p.length) keepFirst(p, this.top_k, Infinity, this.heap);
    if (this.top_p !== 1) keepFirst(p, p.length, this.top_p * total(p), this.heap);
    if (this.min_p) {
      const least = this.min_p * greatest(p);
      for (let i = 0; i < p.length; i++) if (p[i] < least) p[i] = 0;
    }
    const wanted = uniform * total(p);
    let running = 0, last = 0;
    for (let i = 0; i < p.length; i++)
      if (p[i] > 0) {
        running += p[i];
        last = i;
        if (wanted < running) break;
      }
    return last;
  }
}

// NumPy's default_rng([seed, index]).random(): PCG64 (O'Neill 2014), seeded by SeedSequence.
class Random {
  constructor(seed, index) {
    const words = [...wordsOf(seed), ...wordsOf(index)];
    let factor = 0x43b0d7e5;
    const hashed = (value) => {
      value ^= factor;
      factor = Math.imul(factor, 0x931e8875);
      value = Math.imul(value, factor);
      return value ^ (value >>> 16);
    };
    const mixed = (x, y) => {
      const value = (Math.imul(0xca01f9dd, x) - Math.imul(0x4973f715, y)) | 0;
      return value ^ (value >>> 16);
    };
    const pool = [0, 1, 2, 3].map((n) => hashed(words[n] ?? 0));
    for (let from = 0; from < 4; from++)
      for (let to = 0; to < 4; to++) if (from !== to) pool[to] = mixed(pool[to], hashed(pool[from]));
    for (const word of words.slice(4))
      for (let to = 0; to < 4; to++) pool[to] = mixed(pool[to], hashed(word));
    factor = 0x8b51f9dd;
    const state = Array.from({ length: 8 }, (_, n) => {
      let value = pool[n % 4] ^ factor;
      factor = Math.imul(factor, 0x58f38ded);
      value = Math.imul(value, factor);
      return BigInt((value ^ (value >>> 16)) >>> 0);
    });
    const wide = (n) => (state[n + 1] << 96n) | (state[n] << 64n) | (state[n + 3] << 32n) | state[n + 2];
    this.increment = BigInt.asUintN(128, (wide(4) << 1n) | 1n);
    this.state = BigInt.asUintN(128, this.increment + wide(0));
    this.advance();
  }

  advance() {
    this.state = BigInt.asUintN(128, this.state * 0x2360ed051fc65da44385df649fccf645n + this.increment);
  }

  // A number in [0, 1).
  next() {
    this.advance();
    const mixed = BigInt.asUintN(64, (this.state >> 64n) ^ this.state), by = this.state >> 122n;
    const turned = BigInt.asUintN(64, (mixed >> by) | (mixed << (64n - by)));
    return Number(turned >> 11n) * 2 ** -53;
  }
}

// A whole number in words of 32 bits, the lowest first.
function wordsOf(number) {
  const words = [];
  for (let rest = BigInt(number); rest > 0n || !words.length; rest >>= 32n) words.push(Number(rest & 0xffffffffn));
  return words;
}
