"""The process that tests a tokenizer's regular expressions.

Run as `python -m orcinus.text.pattern_process`, with the patterns on stdin. It prints each pattern's index before testing
it, and `done` after the last. Oniguruma abandons a match after ten million steps on any machine; this process's CPU limit
ends slow matches that Oniguruma does not.
"""

from __future__ import annotations

import json
import re
import resource
import sys
from collections.abc import Iterator
from itertools import product

from tokenizers import Regex, pre_tokenizers

CPU_S = 3  # a published pattern takes about a third of one
COMMON = "aA1 \n\t'.-_é中"
ENDS = ("", "!", "\x00", " \x00")  # ends that make a match fail
REPEATS = 40  # each repetition doubles an exponential pattern's steps
LONG = 2000  # characters, for patterns of cubic time
MOST_LETTERS = 24


def letters(pattern: str) -> list[str]:
    """Characters that a pattern may distinguish.

    They are those in the pattern, and one of each common kind.
    """
    return list(dict.fromkeys([*COMMON, *re.sub(r"\\.|[\[\](){}*+?|^$\\]", "", pattern)]))[:MOST_LETTERS]


def texts(pattern: str) -> Iterator[str]:
    """Texts that make a pattern backtrack: repetitions with a failing end."""
    alphabet = letters(pattern)
    words = re.findall(r"\w{2,8}", pattern)
    ends = (*ENDS, "\x00" + "".join([*alphabet, *words]))  # the last has all that a search may look for ahead
    for pump, end in product([*alphabet, *words, *map("".join, product(alphabet, repeat=2))], ends):
        yield pump * REPEATS + end
    for before, pump in product(alphabet, repeat=2):
        yield before + pump * REPEATS + ends[-1]
    for pump, end in product(alphabet, ends):
        yield pump * LONG + end


def main() -> None:
    """Test all patterns.

    The kernel ends the process at the first one that exceeds the limits.
    """
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for index, pattern in enumerate(json.load(sys.stdin)):
        print(index, flush=True)
        splitter = pre_tokenizers.Split(Regex(pattern), "removed")
        for text in texts(pattern):
            splitter.pre_tokenize_str(text)
    print("done", flush=True)


if __name__ == "__main__":
    main()
