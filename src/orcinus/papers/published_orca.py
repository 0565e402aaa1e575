"""Published numbers of Orca (OSDI 2022): figures 9 and 10.

By Yu et al.; read to within 0.5 %.
"""

from __future__ import annotations

SIZES = (1, 2, 4, 8, 16, 32)  # batch sizes of figure 9
GENERATED = 32  # tokens of every request of figure 9

# Figure 9: milliseconds of a batch of each of SIZES, by model, engine and tokens of a prompt. What is missing at the end of
# a row did not fit into memory or was not run.
BATCH_MS: dict[tuple[str, str, int], tuple[float, ...]] = {
    ("13b", "fastertransformer", 32): (690, 693, 700),
    ("13b", "orca", 32): (688, 695, 703, 736, 781, 891),
    ("13b", "fastertransformer", 128): (698, 713, 741),
    ("13b", "orca", 128): (703, 732, 765, 843, 1017, 1374),
    ("101b", "fastertransformer", 32): (981, 1016, 1049, 1072),
    ("101b", "orca", 32): (1009, 1056, 1103, 1152, 1239, 1437),
    ("101b", "fastertransformer", 128): (1003, 1046, 1114, 1192),
    ("101b", "orca", 128): (1046, 1116, 1191, 1286, 1480, 1929),
    ("175b", "fastertransformer", 32): (2237, 2343, 2304, 2428),
    ("175b", "orca", 32): (1559, 1595, 1631, 1719, 1833, 2202),
    ("175b", "fastertransformer", 128): (2315, 2339, 2472, 2529),
    ("175b", "orca", 128): (1613, 1683, 1750, 1922, 2262, 3048),
}

# Figure 10: (requests a second, median milliseconds a token), as far as the curves were read; by model and series, which is
# an engine and its max_bs. FasterTransformer's micro-batches are as large as its batches.
Series = tuple[str, int]
LOADED: dict[tuple[str, Series], tuple[tuple[float, float], ...]] = {
    ("101b", ("fastertransformer", 1)): (
        (0.075, 33),
        (0.133, 33),
        (0.192, 35),
        (0.234, 39),
        (0.304, 51),
        (0.376, 66),
        (0.426, 134),
    ),
    ("101b", ("fastertransformer", 8)): (
        (0.074, 41),
        (0.133, 45),
        (0.191, 118),
        (0.234, 208),
        (0.297, 255),
        (0.363, 310),
        (0.409, 334),
    ),
    ("101b", ("orca", 1)): ((0.133, 42), (0.234, 63), (0.373, 83), (0.423, 232)),
    ("101b", ("orca", 8)): (
        (0.133, 42),
        (0.234, 58),
        (0.384, 68),
        (0.811, 76),
        (1.017, 78),
        (1.52, 82),
        (2.04, 87),
        (2.52, 99),
    ),
    ("101b", ("orca", 16)): ((2.55, 91), (2.97, 95), (3.98, 107)),  # below, as max_bs 8
    ("101b", ("orca", 32)): ((4.06, 104), (5.08, 117), (5.96, 152)),  # below, as max_bs 16
    ("175b", ("fastertransformer", 1)): ((0.074, 76), (0.130, 101), (0.185, 197), (0.202, 492)),
    ("175b", ("fastertransformer", 8)): ((0.074, 124), (0.112, 491), (0.157, 788)),
    ("175b", ("orca", 1)): ((0.133, 55), (0.233, 56), (0.378, 60), (0.429, 84), (0.519, 169)),
    ("175b", ("orca", 8)): ((0.133, 55), (0.386, 57), (0.812, 60), (1.52, 65), (2.04, 70), (2.56, 76), (2.99, 96)),
    ("175b", ("orca", 16)): ((2.56, 75), (2.99, 80), (4.03, 93), (4.90, 157)),
    ("175b", ("orca", 32)): ((4.07, 92), (5.09, 110), (6.00, 132), (6.81, 194)),
}

# Figure 10: the highest throughput that each series reaches, in requests a second.
MOST: dict[tuple[str, Series], float] = {
    ("101b", ("fastertransformer", 1)): 0.493,
    ("101b", ("fastertransformer", 8)): 0.513,
    ("101b", ("orca", 1)): 0.458,
    ("101b", ("orca", 8)): 2.72,
    ("101b", ("orca", 16)): 4.58,
    ("101b", ("orca", 32)): 6.30,
    ("175b", ("fastertransformer", 1)): 0.225,
    ("175b", ("fastertransformer", 8)): 0.219,
    ("175b", ("orca", 1)): 0.572,
    ("175b", ("orca", 8)): 3.17,
    ("175b", ("orca", 16)): 4.99,
    ("175b", ("orca", 32)): 7.01,
}
