const [P0, P1, P2, P3, P4] = [
  9.999999795e-01, 1.338100754e-01, 3.495566410e-03, 2.060872086e-05, 1.335416144e-08,
].map(Math.fround);
const [Q0, Q1, Q2, Q3, Q4] = [
  1.0, 4.671432315e-01, 2.587690009e-02, 3.285599067e-04, 7.776353039e-07,
].map(Math.fround);

function tanh32(x) {
  const r = Math.fround;
  x = Math.min(Math.max(x, -9), 9);
  const u = r(x * x);
  const p = r(r(r(r(r(r(r(r(P4 * u) + P3) * u) + P2) * u) + P1) * u) + P0);
  const q = r(r(r(r(r(r(r(r(Q4 * u) + Q3) * u) + Q2) * u) + Q1) * u) + Q0);
  return r(r(x * p) / q);
}

// What a step computes with whole rows, one number at a time: where there are no WebAssembly vectors.
// The functions are those of kernels.c, in the same order of arithmetic. Addresses are in bytes.
function plainKernels(buffer) {
  const at = new Float32Array(buffer), r = Math.fround, tanh = tanh32;
  const sigmoid = (x) => r(r(0.5 * tanh(r(0.5 * x))) + 0.5);

  // The sum of x - mean, or of its square: 16 sums of every 16th term, which are added up in order.
  const lanes = new Float64Array(16);
  function sum(x, mean, squared, H) {
    lanes.fill(0);
    for (let j = 0; j < H; j++) {
      const d = squared ? at[x + j] - mean : at[x + j];
      lanes[j & 15] += squared ? d * d : d;
    }
    let total = lanes[0];
    for (let n = 1; n < 16; n++) total += lanes[n];
    return total;
  }

  return {
    product(y, x, w, b, K, panels) {
      y >>= 2, x >>= 2, w >>= 2, b >>= 2;
      for (let p = 0; p < panels; p++, w += 32 * K)
        for (let v = 0; v < 32; v += 8, y += 8, b += 8) {
          // Eight sums at a time, in variables, take a third less time than two.
          let s0 = r(-0), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
          for (let k = 0, i = w + v; k < K; k++, i += 32) {
            const xk = at[x + k];
            s0 = r(s0 + r(at[i] * xk));
            s1 = r(s1 + r(at[i + 1] * xk));
            s2 = r(s2 + r(at[i + 2] * xk));
            s3 = r(s3 + r(at[i + 3] * xk));
            s4 = r(s4 + r(at[i + 4] * xk));
            s5 = r(s5 + r(at[i + 5] * xk));
            s6 = r(s6 + r(at[i + 6] * xk));
            s7 = r(s7 + r(at[i + 7] * xk));
          }
          at[y] = s0 + at[b], at[y + 1] = s1 + at[b + 1], at[y + 2] = s2 + at[b + 2], at[y + 3] = s3 + at[b + 3];
          at[y + 4] = s4 + at[b + 4], at[y + 5] = s5 + at[b + 5], at[y + 6] = s6 + at[b + 6], at[y + 7] = s7 + at[b + 7];
        }
    },
    lstm(u, w, h, c, H) {
      u >>= 2, w >>= 2, h >>= 2, c >>= 2;
      for (let j = 0; j < H; j++, u++, w++) {
        const i = sigmoid(r(at[u] + at[w])), f = sigmoid(r(at[u + H] + at[w + H]));
        const g = tanh(r(at[u + 2 * H] + at[w + 2 * H])), o = sigmoid(r(at[u + 3 * H] + at[w + 3 * H]));
        const cell = r(r(f * at[c + j]) + r(i * g));
        at[c + j] = cell;
        at[h + j] = o * tanh(cell);
      }
    },
    gru(u, w, h, H) {
      u >>= 2, w >>= 2, h >>= 2;
      for (let j = 0; j < H; j++, u++, w++) {
        const reset = sigmoid(r(at[u] + at[w])), z = sigmoid(r(at[u + H] + at[w + H]));
        const n = tanh(r(at[u + 2 * H] + r(reset * at[w + 2 * H])));
        at[h + j] = r(r(1 - z) * n) + r(z * at[h + j]);
      }
    },
    rnn(u, w, h, H, relu) {
      u >>= 2, w >>= 2, h >>= 2;
      for (let j = 0; j < H; j++) {
        const a = r(at[u + j] + at[w + j]);
        at[h + j] = relu ? (a > 0 ? a : 0) : tanh(a);
      }
    },
    add(z, x, y, N) {
      z >>= 2, x >>= 2, y >>= 2;
      for (let j = 0; j < N; j++) at[z + j] = at[x + j] + at[y + j];
    },
    norm(y, x, weight, bias, H) {
      y >>= 2, x >>= 2, weight >>= 2, bias >>= 2;
      const mean = sum(x, 0, false, H) / H;
      const scale = 1 / Math.sqrt(sum(x, mean, true, H) / H + 1e-5);
      for (let j = 0; j < H; j++)
        at[y + j] = r(r((at[x + j] - mean) * scale) * at[weight + j]) + at[bias + j];
    },
  };
}
