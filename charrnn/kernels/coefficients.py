"""Numbers that the kernels share with charrnn.inference.numpy_network, which must not import Numba."""

# tanh(x) = x P(x^2) / Q(x^2) on |x| <= 9, where tanh is 1 to float32's last bit: a rational
# least-squares fit of degree 4/4 with Lawson's weights, from the lowest power up. Error 4e-7.
TANH_P = (9.999999795e-01, 1.338100754e-01, 3.495566410e-03, 2.060872086e-05, 1.335416144e-08)
TANH_Q = (1.0, 4.671432315e-01, 2.587690009e-02, 3.285599067e-04, 7.776353039e-07)

# exp(x) = 2^n exp(r) with |r| <= ln(2)/2, exp(r) by its series to r^6, from the highest power down: relative
# error 1.5e-7. Below EXP_LEAST it stays as it is there.
EXP_LEAST, LOG2E = -87.0, 1.4426950408889634
LN2 = (0.693359375, -2.12194440e-4)  # its sum; n times the first, which has few bits, is exact
EXP_SERIES = (1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0)

NORM_EPSILON = 1e-5  # PyTorch's default
NORM_LANES = 16  # partial sums of a layer norm when text is written, so that they are vectors

# log2(1 + t) = t (.. + t (..)) on 0 <= t <= 1, from the lowest power up: error 2e-6.
LOG2_SERIES = (1.4425531436, -0.7182818984, 0.4582707065, -0.2795379275, 0.1234512844, -0.0264573772)

# The gate between counts and network, see charrnn.counts.gate: its units, the contexts of which it is told
# (of 1, 2, .. characters), and the least and the most that it leaves to the counts: after a context of
# GATE_LONG characters that occurred, at most GATE_LONG_MOST, for there they would copy the text, unless this
# repeats itself.
GATE_UNITS, GATE_CONTEXTS, GATE_RANGE = 16, 9, (1 / 1024, 1 - 1 / 1024)
GATE_LONG, GATE_LONG_MOST = 7, 0.2
GATE_INPUTS = GATE_CONTEXTS + 4

# log(m) = 2 f (1 + f^2 / 3 + f^4 / 5 ..) with f = (m - 1) / (m + 1), from the highest power down, on
# sqrt(1/2) <= m < sqrt(2): error 5e-13. The bits of sqrt(1/2) as a float64 are LOG_LEAST.
LOG_SERIES, LOG_LEAST = (1 / 13, 1 / 11, 1 / 9, 1 / 7, 1 / 5, 1 / 3, 1.0), 0x3FE6A09E667F3BCD

# A memory, see charrnn.kernels.loops.memory: its heads, the shifts among which one chooses, what its rows
# hold at first, the least that is sharpened, and what is added to squares of lengths, so that a row of zeros
# is like no key.
HEADS, SHIFTS, BEGUN = 2, 3, 1e-6
FOCUS_LEAST, LENGTH_EPSILON = 1e-30, 1e-8

# The longest contexts whose probabilities under counts are computed as whole rows, see charrnn.counts.lookup.
WHOLE_ROWS = 1

# Grams of whole texts, see charrnn.counts.class_grams: the longest, the bits of their numbers, and what codes
# of their weights stand for: that of 0, and the step between two.
CLASS_GRAM, CLASS_GRAM_BITS, CLASS_GRAM_ZERO, CLASS_GRAM_STEP = 4, 20, 128, 0.1

# How much of a prediction by counts is left to the texts with the same label, see charrnn.counts.counts.
LABEL_SHARE = 0.6
