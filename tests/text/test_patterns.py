"""Regular expressions of tokenizers: those that explode are refused when a model is loaded, published ones are not."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from orcinus.errors import ModelError, RequestError
from orcinus.text import patterns, tokenizer_files
from orcinus.text.patterns import check_patterns, tokenizer_errors
from orcinus.text.tokenizer import load_tokenizer
from tests.commands import orcinus
from tests.product import part

BUNDLED = Path(__file__).parents[2] / "src/orcinus/tiny/model"
EXPLODES = [
    r"(a+)+$",
    r"(x+x+)+y",
    r"(\w+\s?)*$",
    r"(?:a|aa)+$",
    r"(a|a)*c$",
    r"(\d+)*\.",
    r"([a-zA-Z]+)*!",
    r"(?:foo|foofoo)+$",
    r"(\s+)+x",
    r"((ab)*)*c",
    r"([^\s]+)*$",
    r"q(z+)+k",
    r"(\p{L}+)+\d",
    r"^(([a-z])+.)+[A-Z]([a-z])+$",
    r"a*a*a*a*b",
]
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
ENDS = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PUBLISHED = [
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",  # GPT-2
    rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{ENDS}",  # Llama 3
    rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{ENDS}",  # Qwen2
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|\p{{N}}{{1,3}}|{ENDS}",
    r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r" {2,}",
    r"\s+$",
    r"\d{1,3}(?=(?:\d{3})*\b)",
]


def split_by(pattern: str) -> Tokenizer:
    made = Tokenizer(models.BPE())
    steps = [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(use_regex=False)]
    made.pre_tokenizer = pre_tokenizers.Sequence(steps)
    return made


TRIED = EXPLODES[::4]


@pytest.mark.parametrize("pattern", part(*TRIED, full=[one for one in EXPLODES if one not in TRIED]))
def test_a_pattern_that_explodes_is_found(pattern: str) -> None:
    with pytest.raises(ModelError, match=r"the tokenizer in .* takes exponential time: mend it") as caught:
        check_patterns(split_by(pattern), Path("folder"))
    assert repr(pattern)[:10] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_of_few_steps_that_take_long_ends_with_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After one second of its core instead of three."""
    (tmp_path / "impatient.py").write_text(
        "from orcinus.text import pattern_process\npattern_process.CPU_S = 1\npattern_process.main()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(patterns, "PROCESS", "impatient")
    test_a_pattern_that_explodes_is_found(EXPLODES[-1])


@pytest.mark.parametrize("pattern", PUBLISHED)
def test_published_patterns_pass(pattern: str) -> None:
    check_patterns(split_by(pattern), Path("folder"))


def test_a_pattern_is_found_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.setattr(patterns, "_try", lambda found: tried.extend(found) or "done")
    made = split_by("one+")
    made.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex("two+"), "x")])
    made.decoder = decoders.Sequence([decoders.Replace(Regex("three+"), "x"), decoders.Replace("four", "x")])
    check_patterns(made, Path("folder"))
    assert sorted(tried) == ["one+", "three+", "two+"]


def test_without_a_pattern_no_process_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "_try", None)
    assert load_tokenizer(BUNDLED) is not None


def test_a_process_that_cannot_try_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "PROCESS", "orcinus.no_such_module")
    check_patterns(split_by(EXPLODES[0]), Path("folder"))
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    check_patterns(split_by(EXPLODES[0]), Path("folder"))


def _with_pattern(folder: Path, pattern: str) -> Path:
    made = Path(shutil.copytree(BUNDLED, folder / "model"))
    content = json.loads((made / "tokenizer.json").read_text())
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, content["pre_tokenizer"]]}
    (made / "tokenizer.json").write_text(json.dumps(content))
    return made


def test_a_command_refuses_such_a_model_in_one_line(tmp_path: Path) -> None:
    folder = _with_pattern(tmp_path, EXPLODES[0])
    done = orcinus("generate", "a" * 40 + "b", "--model", str(folder))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "(a+)+$" in done.stderr


def test_a_tokenizer_whose_patterns_could_not_be_tried_is_tried_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, private = _with_pattern(tmp_path, EXPLODES[0]), tmp_path / "cache"
    private.mkdir(mode=0o700)
    monkeypatch.setenv("CACHE_DIRECTORY", str(private))
    with monkeypatch.context() as patch:
        patch.setattr(patterns, "_try", lambda found: "")
        assert load_tokenizer(folder) is not None
    with pytest.raises(ModelError, match="exponential time"):
        load_tokenizer(folder)


def test_a_match_of_too_many_steps_fails_one_request_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a pattern that no trial found."""
    monkeypatch.setattr(tokenizer_files.KEPT, "keep", lambda question, answer: None)  # it would be believed by others
    monkeypatch.setattr(patterns, "_try", lambda found: "done")
    tokenizer = load_tokenizer(_with_pattern(tmp_path, EXPLODES[0]))
    assert tokenizer is not None
    with pytest.raises(RequestError, match="takes too many steps on this text: shorten the text"):
        tokenizer.encode("a" * 40 + "b")
    with pytest.raises(RequestError, match="takes too many steps"):
        tokenizer.encode_chat([{"role": "user", "content": "a" * 40 + "b"}])
    assert tokenizer.encode("hello")


def test_a_text_that_a_tokenizer_cannot_read_fails_one_request_only(tmp_path: Path) -> None:
    """Its token for unknown characters is unknown itself, which is found when one comes."""
    folder = Path(shutil.copytree(BUNDLED, tmp_path / "model"))
    whole = json.loads((folder / "tokenizer.json").read_bytes())
    few = {character: place for place, character in enumerate("abc")}
    whole["model"] |= {"vocab": few, "merges": [], "unk_token": "unknown"}
    (folder / "tokenizer.json").write_text(json.dumps(whole))
    tokenizer = load_tokenizer(folder)
    assert tokenizer is not None
    assert tokenizer.decode(tokenizer.encode("abc")) == "abc"
    with pytest.raises(RequestError, match="the model's tokenizer cannot read this text: .*unknown.* not found in the vocab"):
        tokenizer.encode("abcd")


def test_other_errors_pass_as_they_are() -> None:
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error), tokenizer_errors():
            raise error
