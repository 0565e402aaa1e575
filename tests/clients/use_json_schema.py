"""The JSON Schema suite for draft 2020-12: no answer that breaks a schema may be written.

The suite comes with the source distribution of `jsonschema` (argument: its archive). A schema that is refused, with its
keyword named, counts as refused. Otherwise every valid instance should be writable, and no invalid one may be.
"""

from __future__ import annotations

import json
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from orcinus.core.structured_outputs import StructuredOutputs
from orcinus.errors import RequestError
from orcinus.text.grammars import Grammars, vocabulary_of
from orcinus.text.tokenizer import Tokenizer, load_tokenizer
from orcinus.tiny import MODEL_DIR

DRAFT = "draft2020-12"
LEAST_COMPILED, LEAST_WRITABLE = 0.4, 0.9  # shares below which something is broken; the table has the true ones


def groups(archive: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The suite's files, without the optional ones, and their groups of cases."""
    with tarfile.open(archive) as files:
        for member in files:
            path = PurePosixPath(member.name)
            if path.suffix == ".json" and path.parent.name == DRAFT and path.parent.parent.name == "tests":
                content = files.extractfile(member)
                assert content is not None
                for group in json.load(content):
                    yield path.stem, group


def writable(grammars: Grammars, tokenizer: Tokenizer, grammar: str, instance: object) -> bool:
    """Whether an answer could be this instance, in the usual spelling."""
    matcher = grammars.matcher(grammar)
    text = json.dumps(instance, ensure_ascii=False)
    return bool(matcher.consume_tokens(list(tokenizer.encode(text, special=False)))) and matcher.is_accepting()


def main() -> int:
    tokenizer = load_tokenizer(MODEL_DIR)
    assert tokenizer is not None
    grammars = Grammars(lambda: vocabulary_of(tokenizer, tokenizer.eos_ids, 2048))
    schemas: Counter[str] = Counter()
    instances: Counter[tuple[bool, bool]] = Counter()
    refused: Counter[str] = Counter()
    for subject, group in groups(sys.argv[1]):
        try:
            grammar = grammars.check(StructuredOutputs(json=group["schema"]))
        except RequestError as error:
            schemas["refused"] += 1
            refused[str(error)] += 1
            continue
        schemas["compiled"] += 1
        for case in group["tests"]:
            could = writable(grammars, tokenizer, grammar, case["data"])
            instances[case["valid"], could] += 1
            if could and not case["valid"]:
                print(f"FAIL  {subject}: {group['description']}: {case['description']} is writable", flush=True)
    total, valid = sum(schemas.values()), instances[True, True] + instances[True, False]
    compiled, written = schemas["compiled"] / total, instances[True, True] / valid
    wrong = instances[False, True]
    print(f"{schemas['compiled']} of {total} schemas compiled ({compiled:.0%}); the others are refused:")
    for message, count in refused.most_common(12):
        print(f"      {count:4} {message}")
    print(f"{instances[True, True]} of {valid} valid instances can be written ({written:.0%})")
    verdict = wrong == 0 and compiled >= LEAST_COMPILED and written >= LEAST_WRITABLE
    print(f"{'pass' if verdict else 'FAIL'}  {wrong} of {wrong + instances[False, False]} invalid instances can be written")
    return 0 if verdict else 1


if __name__ == "__main__":
    sys.exit(main())
