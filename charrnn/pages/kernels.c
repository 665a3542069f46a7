// What a step computes with whole rows, in WebAssembly's vectors of four float32 or two float64.
//
// The order of arithmetic is that of charrnn.inference.numpy_network, bit for bit: each product of a sum is
// rounded before it is added, and sums run from the first term to the last. So nothing here may be fused or
// reordered: the flags that `make kernels` gives keep the compiler from it, and relaxed SIMD is not used.
//
// kernels.js has the same functions in plain JavaScript. Rows may be computed up to a whole vector: there is
// room behind each.

#include <wasm_simd128.h>

typedef v128_t four; // float32
typedef v128_t two;  // float64

#define EXPORT(name) __attribute__((export_name(#name)))

enum { PANEL = 32, LANES = 16 };

static inline four load(const float *a) { return wasm_v128_load(a); }
static inline void store(float *a, four x) { wasm_v128_store(a, x); }
static inline four all(float x) { return wasm_f32x4_splat(x); }
static inline four add4(four x, four y) { return wasm_f32x4_add(x, y); }
static inline four mul4(four x, four y) { return wasm_f32x4_mul(x, y); }

// y = W x + b: panels of 32 outputs, (panels, K, 32).
EXPORT(product)
void product(float *y, const float *x, const float *w, const float *b, int K, int panels) {
    for (int p = 0; p < panels; p++, y += PANEL, b += PANEL) {
        four sums[PANEL / 4];
#pragma unroll
        for (int v = 0; v < PANEL / 4; v++)
            sums[v] = all(-0.0f);
        for (int k = 0; k < K; k++, w += PANEL) {
            four xk = wasm_v128_load32_splat(x + k);
#pragma unroll
            for (int v = 0; v < PANEL / 4; v++)
                sums[v] = add4(sums[v], mul4(load(w + 4 * v), xk));
        }
#pragma unroll
        for (int v = 0; v < PANEL / 4; v++)
            store(y + 4 * v, add4(sums[v], load(b + 4 * v)));
    }
}

// The coefficients of charrnn.kernels.coefficients: TANH_P, then TANH_Q.
static const float P[] = {9.999999795e-01f, 1.338100754e-01f, 3.495566410e-03f, 2.060872086e-05f, 1.335416144e-08f};
static const float Q[] = {1.0f, 4.671432315e-01f, 2.587690009e-02f, 3.285599067e-04f, 7.776353039e-07f};

static inline four series(const float *c, four u) {
    four y = mul4(all(c[4]), u);
    for (int n = 3; n > 0; n--)
        y = mul4(add4(y, all(c[n])), u);
    return add4(y, all(c[0]));
}

static inline four tanh4(four x) {
    x = wasm_f32x4_min(wasm_f32x4_max(x, all(-9.0f)), all(9.0f));
    four u = mul4(x, x);
    return wasm_f32x4_div(mul4(x, series(P, u)), series(Q, u));
}

static inline four sigmoid4(four x) {
    return add4(mul4(all(0.5f), tanh4(mul4(all(0.5f), x))), all(0.5f));
}

// Gates i, f, g, o from u = W_ih x + b_ih and w = W_hh h + b_hh: c = f c + i g, h = o tanh(c).
EXPORT(lstm)
void lstm(const float *u, const float *w, float *h, float *c, int H) {
    for (int j = 0; j < H; j += 4, u += 4, w += 4) {
        four i = sigmoid4(add4(load(u), load(w)));
        four f = sigmoid4(add4(load(u + H), load(w + H)));
        four g = tanh4(add4(load(u + 2 * H), load(w + 2 * H)));
        four o = sigmoid4(add4(load(u + 3 * H), load(w + 3 * H)));
        four cell = add4(mul4(f, load(c + j)), mul4(i, g));
        store(c + j, cell);
        store(h + j, mul4(o, tanh4(cell)));
    }
}

// Gates r, z, n: n = tanh(u_n + r w_n), h = (1 - z) n + z h.
EXPORT(gru)
void gru(const float *u, const float *w, float *h, int H) {
    for (int j = 0; j < H; j += 4, u += 4, w += 4) {
        four r = sigmoid4(add4(load(u), load(w)));
        four z = sigmoid4(add4(load(u + H), load(w + H)));
        four n = tanh4(add4(load(u + 2 * H), mul4(r, load(w + 2 * H))));
        four kept = mul4(z, load(h + j));
        store(h + j, add4(mul4(wasm_f32x4_sub(all(1.0f), z), n), kept));
    }
}

EXPORT(rnn)
void rnn(const float *u, const float *w, float *h, int H, int relu) {
    for (int j = 0; j < H; j += 4) {
        four a = add4(load(u + j), load(w + j));
        store(h + j, relu ? wasm_f32x4_pmax(all(0.0f), a) : tanh4(a));
    }
}

EXPORT(add)
void add(float *z, const float *x, const float *y, int N) {
    for (int j = 0; j < N; j += 4)
        store(z + j, add4(load(x + j), load(y + j)));
}

static inline two wide(const float *a) {
    return wasm_f64x2_promote_low_f32x4(wasm_v128_load64_zero(a));
}

// The sum of x - mean, or of its square: 16 sums of every 16th term, which are added up in order.
static double sum(const float *x, double mean, int squared, int H) {
    double lanes[LANES];
    two sums[LANES / 2];
    int whole = H / LANES * LANES;
    for (int v = 0; v < LANES / 2; v++)
        sums[v] = wasm_f64x2_splat(0.0);
    for (int j = 0; j < whole; j += LANES)
#pragma unroll
        for (int v = 0; v < LANES / 2; v++) {
            two d = wide(x + j + 2 * v);
            if (squared) {
                d = wasm_f64x2_sub(d, wasm_f64x2_splat(mean));
                d = wasm_f64x2_mul(d, d);
            }
            sums[v] = wasm_f64x2_add(sums[v], d);
        }
    for (int v = 0; v < LANES / 2; v++)
        wasm_v128_store(lanes + 2 * v, sums[v]);
    for (int j = whole; j < H; j++) {
        double d = x[j];
        if (squared) {
            d -= mean;
            d *= d;
        }
        lanes[j - whole] += d;
    }
    double total = lanes[0];
    for (int n = 1; n < LANES; n++)
        total += lanes[n];
    return total;
}

// y = (x - mean) / sqrt(variance + 1e-5) * weight + bias.
EXPORT(norm)
void norm(float *y, const float *x, const float *weight, const float *bias, int H) {
    double mean = sum(x, 0.0, 0, H) / H;
    double scale = 1.0 / __builtin_sqrt(sum(x, mean, 1, H) / H + 1e-5);
    for (int j = 0; j < H; j += 4) {
        two low = wasm_f64x2_mul(wasm_f64x2_sub(wide(x + j), wasm_f64x2_splat(mean)), wasm_f64x2_splat(scale));
        two high = wasm_f64x2_mul(wasm_f64x2_sub(wide(x + j + 2), wasm_f64x2_splat(mean)), wasm_f64x2_splat(scale));
        four n = wasm_i64x2_shuffle(wasm_f32x4_demote_f64x2_zero(low), wasm_f32x4_demote_f64x2_zero(high), 0, 2);
        store(y + j, add4(mul4(n, load(weight + j)), load(bias + j)));
    }
}
