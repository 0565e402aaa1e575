"""Published numbers of SARATHI (Agrawal et al., arXiv 2308.16369)."""

from __future__ import annotations

LENGTHS = {1024: 18, 2048: 10, 3072: 6}  # tokens of all requests of an experiment -> the most that fit an A6000 together

# Table 2, ms: linear layers and attention of an iteration of 1024 prompt tokens, of 4 decodes at 1024, of 1021 + 3 decodes.
PREFILL_ONLY, DECODE_ONLY, DECODE_MAXIMAL = 234.8, 49.96, 238.4
DECODE_TOKEN, PIGGYBACKED_TOKEN = 12.49, 1.2

# Figure 3 and its text: batch -> what a decode costs in prefill tokens, at 1024.
DECODE_TO_PREFILL = {1: 200.0, 2: 100.0, 18: 16.7}

TILE_STEP = 0.32  # section 2: an iteration of 257 tokens takes so much more than one of 256

# Figure 8 at 1K and chunks of 256: batch -> decode speed-up.
SPEED_UP = {6: 5.5, 8: 4.5, 10: 3.9, 12: 3.4, 14: 3.1, 16: 2.9, 18: 2.7}

# Table 4, LLaMA-13B, batch 6, P:D 50, chunks of 256: tokens of a request -> throughput against the baseline.
TABLE_4 = {1024: 1.33, 2048: 1.26, 3072: 1.22}

# Figure 9: (tokens of a request, chunk) -> the best throughput against the baseline, and at which P:D.
PEAKS = {
    (1024, 128): (1.145, 6),
    (1024, 256): (1.265, 14),
    (1024, 512): (1.230, 29),
    (2048, 128): (1.122, 13),
    (2048, 256): (1.245, 27),
    (2048, 512): (1.218, 55),
    (3072, 128): (1.101, 24),
    (3072, 256): (1.223, 50),
    (3072, 512): (1.202, 101),
}
RATIOS = (10, 50, 100, 200)
BESIDE = {  # the same curves at P:D 10, 50, 100 and 200
    (1024, 128): (1.122, 1.047, 1.026, 1.014),
    (1024, 256): (1.222, 1.108, 1.060, 1.031),
    (1024, 512): (1.131, 1.148, 1.080, 1.042),
    (2048, 128): (1.105, 1.062, 1.038, 1.021),
    (2048, 256): (1.124, 1.164, 1.095, 1.052),
    (2048, 512): (1.080, 1.209, 1.134, 1.072),
    (3072, 128): (1.053, 1.072, 1.047, 1.027),
    (3072, 256): (1.072, 1.223, 1.137, 1.078),
    (3072, 512): (1.049, 1.147, 1.197, 1.112),
}

# Figure 13, against no chunks, by chunk size.
CHUNKS = (64, 128, 192, 256, 320, 384, 448, 512)
CHUNKED_ATTENTION = {
    1024: (0.28, 0.60, 0.54, 0.68, 0.70, 0.76, 0.76, 0.81),
    2048: (0.41, 0.80, 0.63, 0.85, 0.77, 0.85, 0.82, 0.88),
    3072: (0.45, 0.88, 0.69, 0.90, 0.80, 0.90, 0.84, 0.91),
}
CHUNKED_PREFILL = {
    1024: (0.20, 0.45, 0.61, 0.77, 0.66, 0.84, 0.83, 0.94),
    2048: (0.25, 0.51, 0.66, 0.81, 0.71, 0.88, 0.86, 0.96),
    3072: (0.26, 0.52, 0.68, 0.82, 0.71, 0.90, 0.86, 0.97),
}
CHUNKED_END_TO_END = {
    1024: (1.02, 1.15, 1.20, 1.28, 1.06, 1.24, 1.17, 1.24),
    2048: (0.98, 1.13, 1.18, 1.26, 1.05, 1.21, 1.15, 1.23),
    3072: (0.95, 1.10, 1.15, 1.22, 1.03, 1.19, 1.12, 1.20),
}

# Figure 12, 10,000 requests to GPT-3: seconds until so many were served; seconds of bubbles per request by percentile.
SERVED = {
    "TP+PP": {5000: 1882.0, 10_000: 3673.0},
    "TP": {5000: 1441.0, 10_000: 2856.0},
    "SARATHI": {5000: 988.0, 10_000: 1924.0},
}
BUBBLES = {"TP+PP": {50: 40.2, 90: 74.0, 100: 89.0}, "SARATHI": {50: 6.4, 90: 11.7, 100: 15.0}}
OVER_PIPELINE, OVER_TENSOR, TENSOR_OVER_PIPELINE, FEWER_BUBBLES = 1.91, 1.48, 1.28, 6.29
