"""Code from elsewhere: none is run, and no file comes to lie where it was not asked for."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from orcinus.errors import OrcinusError
from orcinus.runtime.hub import find_model
from orcinus.tiny import MODEL_DIR
from tests.fake_hub import Hub, Repository, files_of, running, use
from tests.fuzz.mutations import check_line

SOURCES = Path(__file__).parents[2] / "src" / "orcinus"
READERS = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}  # modules whose files are programs
CALLS = {"eval", "exec", "compile", "__import__"}  # of the language


def _faults(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Import(names):
                found += [name.name for name in names if name.name.split(".")[0] in READERS]
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in READERS:
                found.append(module)
            case ast.Call(func=ast.Name(name)) if name in CALLS:
                found.append(name)
            case ast.Call(func=ast.Attribute(ast.Name("torch"), "load")):
                found.append("torch.load")
            case ast.keyword(arg="trust_remote_code", value=value) if getattr(value, "value", None) is not False:
                found.append("trust_remote_code")
            case ast.keyword(arg="allow_pickle" | "shell", value=value) if getattr(value, "value", None) is not False:
                found.append(str(node.arg))
    return found


def test_no_code_of_a_model_is_run_and_nothing_is_unpickled() -> None:
    """Numba's kernels are pickles of our own: `runtime/compiled.py` reads them from a private folder, by numba."""
    found = {str(file.relative_to(SOURCES)): _faults(ast.parse(file.read_text())) for file in SOURCES.rglob("*.py")}
    assert {file: faults for file, faults in found.items() if faults} == {}


def test_that_would_be_found() -> None:
    code = "import pickle\nfrom dill import load\neval(x)\ntorch.load(f)\nf(trust_remote_code=True)\nrun(shell=True)\n"
    assert len(_faults(ast.parse(code))) == 6


EVIL = ["../../../evil.json", "/tmp/evil.json", "a/../../../evil.json", "..\\..\\evil.json"]


@pytest.mark.parametrize("name", EVIL)
def test_a_hub_cannot_write_outside_its_cache(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789abcdef" * 2 + "01234567"
    with running(Hub()) as hub:
        use(hub, tmp_path / "home", monkeypatch)
        for repository in ({**files_of(MODEL_DIR), name: b"{}"}, {name.replace(".json", ".gguf"): b"GGUF"}):
            hub.repositories["some/model"] = Repository({commit: repository}, {"main": commit})
            try:
                find_model("some/model")
            except OrcinusError as error:
                check_line(error)
    outside = [file for file in tmp_path.rglob("*") if file.is_file() and (tmp_path / "home") not in file.parents]
    assert outside == []
    assert not Path("/tmp/evil.json").exists()
