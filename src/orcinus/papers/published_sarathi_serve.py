"""Published numbers of Sarathi-Serve (OSDI 2024) and vLLM (SOSP 2023)."""

from __future__ import annotations

# Sarathi-Serve, table 2: tokens of openchat_sharegpt4. The two standard deviations of outputs are interchanged in print:
# 265 stands in the line of arxiv_summarization, and the authors' trace file of openchat_sharegpt4 has 265.6.
PROMPT = {"median": 1730.0, "p90": 5696.0, "std": 2088.0}
OUTPUT = {"median": 415.0, "p90": 834.0, "std": 265.6}

# Figure 9, Mistral-7B on one A100 with a token budget of 256. (decodes, tokens that each attends to) ->
# ms of an iteration with the decodes alone, with a chunk of a prompt besides, with a whole prompt besides.
FIGURE_9: dict[tuple[int, int], tuple[float, float, float]] = {
    (1, 1024): (16, 29, 91),
    (32, 1024): (26.5, 37, 101),
    (64, 1024): (41, 50, 115),
    (1, 2048): (16, 31, 165),
    (32, 2048): (33, 47, 183),
    (64, 2048): (57, 72, 211),
    (1, 4096): (16, 32, 325),
    (32, 4096): (46, 61, 360),
    (64, 4096): (77, 94, 395),
}

RATIOS_9: dict[tuple[int, int], tuple[float, float]] = {  # as printed above the bars, of the hybrid ones to the decodes alone
    (1, 1024): (1.8, 5.7),
    (32, 1024): (1.4, 3.8),
    (64, 1024): (1.2, 2.8),
    (1, 2048): (1.9, 10.2),
    (32, 2048): (1.4, 5.5),
    (64, 2048): (1.3, 3.7),
    (1, 4096): (2.0, 20.3),
    (32, 4096): (1.3, 7.8),
    (64, 4096): (1.2, 5.1),
}

# Figure 10, Mistral-7B: requests per second that each system sustains under (strict, relaxed) objectives.
FIGURE_10: dict[str, dict[str, tuple[float, float]]] = {
    "openchat": {"Orca": (0.73, 1.06), "vLLM": (0.77, 1.56), "Sarathi-Serve": (2.03, 2.28)},
    "arXiv": {"Orca": (0.34, 0.39), "vLLM": (0.44, 0.47), "Sarathi-Serve": (0.62, 0.77)},
}

# Figure 12, Mistral-7B on openchat: the same against the P99 time between tokens that was promised, in seconds.
TBT_12 = (0.1, 0.2, 0.3, 0.4, 0.5)
FIGURE_12: dict[str, tuple[float, ...]] = {
    "vLLM, 128": (0.77, 1.06, 1.25, 1.39, 1.56),
    "vLLM, 64": (0.77, 1.05, 1.23, 1.39, 1.58),
    "vLLM, 32": (0.77, 1.03, 1.24, 1.35, 1.35),
    "Sarathi-Serve, 512": (2.03, 2.00, 2.00, 2.00, 2.00),
    "Sarathi-Serve, 2048": (0.50, 1.64, 2.30, 2.30, 2.30),
}

# The headline: capacity over vLLM's, as the text divides them.
OVER_VLLM = {"strict": 2.64, "relaxed": 1.46}

# Figure 13a: ms between tokens of decode-only batches of Falcon-180B, over two nodes.
TBT_13 = {"TP8": 190.0, "TP4-PP2": 85.0}

# The authors' repository, figures 2 and 9 (numbered as in the experiments' folders): ms of an iteration of Yi-34B on two
# A100-80GB, by decodes at about 1024 tokens, by tokens of a prompt, and of prompts in chunks by (prompt, chunk). Left out is
# a prompt of 256 tokens, the first batch of its process: 121 ms, where 512 tokens take 106. Two of their runs say 49 and 68
# ms for four decodes, so that is how well they repeat.
YI_DECODES = {1: 46.8, 2: 47.5, 4: 48.8, 8: 69.7, 16: 77.3, 32: 87.9, 64: 127.8, 128: 189.3}
YI_PROMPTS = {128: 48.1, 512: 105.6, 1024: 214.3, 2048: 366.0, 4096: 757.6, 8192: 1863.3, 16384: 4407.5}
YI_CHUNKED = {(4095, 512): 922.0, (8191, 512): 1958.5, (8191, 2048): 1643.4}

# vLLM, figure 13a, ShareGPT at 2 requests per second, OPT-13B on an A100 of 40 GB: requests in a batch, on average. Section
# 6.1: K/V places there, and how many times the rate of others vLLM sustains.
BATCHED_13 = {"Orca (Max)": 7.00, "Orca (Pow2)": 9.81, "Orca (Oracle)": 13.62, "vLLM": 30.42}
KV_PLACES = 15_700
SUSTAINED_OVER = {"Orca (Max)": "2.7 to 8", "Orca (Oracle)": "1.7 to 2.7"}
ORCA_MAX_BATCH = BATCHED_13["Orca (Max)"]

# vLLM, figure 2: shares of K/V memory in per cent. "the rest" is internal and external fragmentation together.
SHARES_2 = {
    ("Orca (Pow2)", "tokens"): 26.8,
    ("Orca (Pow2)", "reserved"): 17.9,
    ("Orca (Pow2)", "the rest"): 13.6 + 41.6,
    ("Orca (Oracle)", "tokens"): 38.2,
    ("Orca (Oracle)", "reserved"): 25.2,
    ("Orca (Oracle)", "the rest"): 36.6,
    ("vLLM", "tokens"): 96.3,
}
