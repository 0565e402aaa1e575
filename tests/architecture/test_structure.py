"""The rules of docs/architecture.md, kept by walking the source."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from orcinus.core.policies import POLICIES

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"
PACKAGE = SRC / "orcinus"
FILES = sorted(PACKAGE.rglob("*.py"))

# Each layer may import from itself (unless siblings are apart) and from those before it.
LAYERS: list[set[str]] = [
    {"core", "errors", "config", "cache", "clock", "distribution", "files", "model_config", "parent", "threads"},
    {"cost", "workload", "observe", "text", "conformance"},
    {"sim", "runtime"},
    {"sizes", "plan", "build", "llm", "calibrate", "machine_load", "interrupt", "tiny", "papers", "plots"},
    {"serve"},
    {"dashboard", "bench", "cli", "__main__"},
]
APART = [{"sim", "runtime"}]
ONLY_UNDER = {
    "torch": {"runtime", "build", "cli/info.py"},
    "numba": {"runtime"},
    "triton": {"runtime"},
    "transformers": {"runtime", "text"},
    "typer": {"cli"},
    "matplotlib": {"plots"},
    "rich": {"cli"},
    "fastapi": {"serve"},
    "starlette": {"serve"},
    "uvicorn": {"serve"},
    "pydantic": {"serve"},
    "msgspec": {"serve", "bench"},
    "zmq": {"serve"},
    "httptools": {"serve", "bench"},
    "httpx": {"conformance", "cli/conformance.py", "cli/partners.py"},
}
LAZY = {  # heavy or optional imports that are allowed inside functions
    "transformers",
    "huggingface_hub",
    "jinja2",
    "tqdm",
    "torch",
    "matplotlib",
    "httpx",
    "httpx_sse",
    "uvloop",
    "orcinus",
}


def module(file: Path) -> str:
    return ".".join(file.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")


def imports(tree: ast.AST) -> set[str]:
    """Full names of what a tree imports."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part(name: str) -> str | None:
    """`orcinus.core.engine` -> `core`."""
    pieces = name.split(".")
    return pieces[1] if pieces[0] == "orcinus" and len(pieces) > 1 else None


def layer(name: str) -> int:
    return next(index for index, names in enumerate(LAYERS) if name in names)


@pytest.mark.parametrize("file", FILES, ids=module)
def test_layers(file: Path) -> None:
    own = part(module(file))
    if own is None:  # orcinus/__init__.py, which loads its names lazily
        return
    known = set().union(*LAYERS)
    for other in {part(name) for name in imports(ast.parse(file.read_text()))} & known:
        assert other is not None
        assert layer(other) <= layer(own), f"{own} may not import {other}"
        assert not any({own, other} <= apart and own != other for apart in APART), (
            f"{own} and {other} know nothing of each other"
        )


@pytest.mark.parametrize("file", FILES, ids=module)
def test_heavy_libraries_stay_where_they_belong(file: Path) -> None:
    place = file.relative_to(PACKAGE).as_posix()
    for name in {name.split(".")[0] for name in imports(ast.parse(file.read_text()))}:
        if name in ONLY_UNDER:
            assert any(place.split("/")[0].removesuffix(".py") == home or place == home for home in ONLY_UNDER[name]), (
                f"{name} in {place}"
            )


@pytest.mark.parametrize("file", sorted((PACKAGE / "core").rglob("*.py")), ids=module)
def test_the_core_is_standard_library_only(file: Path) -> None:
    forbidden = {"time", "threading", "asyncio", "logging", "socket", "subprocess", "random", "os", "io", "multiprocessing"}
    for name in imports(ast.parse(file.read_text())):
        top = name.split(".")[0]
        assert top in sys.stdlib_module_names | {"orcinus"}, f"{name} is not in the standard library"
        assert top not in forbidden, f"the core has no {top}"
        assert part(name) in (None, "core", "errors"), f"the core may not import {name}"


@pytest.mark.parametrize("file", sorted((PACKAGE / "conformance").rglob("*.py")), ids=module)
def test_the_checklist_is_a_black_box(file: Path) -> None:
    for name in imports(ast.parse(file.read_text())):
        assert part(name) in (None, "conformance", "errors"), f"a checklist of servers may not import {name}"


@pytest.mark.parametrize("file", FILES, ids=module)
def test_sizes(file: Path) -> None:
    """400 lines a file and 60 a function are the most."""
    text = file.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{node.name} is too long"


def test_functions_are_short() -> None:
    lengths = [
        (node.end_lineno or 0) - node.lineno + 1
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef)
    ]
    assert statistics.median(lengths) < 10


def test_there_is_no_import_cycle() -> None:
    graph = {module(file): imports(_without_functions(ast.parse(file.read_text()))) for file in FILES}
    graph = {name: {other for other in targets if other in graph and other != name} for name, targets in graph.items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path, name])
        if name not in done:
            for other in graph[name]:
                visit(other, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def _without_functions(tree: ast.Module) -> ast.Module:
    """Imports at the top and under `if TYPE_CHECKING` are the ones that count; those for typing alone make no cycle."""
    return ast.Module([node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.If)], [])


@pytest.mark.parametrize("file", FILES, ids=module)
def test_lazy_imports_are_the_listed_ones(file: Path) -> None:
    for function in ast.walk(ast.parse(file.read_text())):
        if isinstance(function, ast.FunctionDef):
            assert {name.split(".")[0] for name in imports(function)} <= LAZY


def test_only_the_composition_root_asks_which_policy_or_manager_it_has() -> None:
    """Everything else asks protocols: `holds_answers`, `preallocates`, `stats`."""
    concrete = {made.__name__ for made in POLICIES.values()} | {"BlockPool", "MaxLength", "Paged", "PrefixCache", "Reservation"}
    for file in set(FILES) - {PACKAGE / "build.py"}:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
                names = {each.id for each in ast.walk(node.args[1]) if isinstance(each, ast.Name)}
                assert not names & concrete, f"{module(file)} asks for {names & concrete}"


@pytest.mark.parametrize("file", FILES, ids=module)
def test_modules_and_public_names_are_documented(file: Path) -> None:
    tree = ast.parse(file.read_text())
    assert file.stat().st_size == 0 or ast.get_docstring(tree), "a module says what it is for"
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_") and "decoder.py" not in file.name:
            assert ast.get_docstring(node) or file.name == "main.py", f"{node.name} has no docstring"


def test_public_names_exist_and_are_all_listed() -> None:
    import orcinus

    assert sorted(orcinus.__all__) == sorted(orcinus._HOME)
    for name in orcinus.__all__:
        assert getattr(orcinus, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = orcinus.nothing


def loaded_by(code: str, *modules: str) -> str:
    """Which of the modules a fresh interpreter has loaded after running the code."""
    code = f"{code}; import sys; print([name for name in {modules} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_orcinus_loads_nothing_heavy() -> None:
    assert loaded_by("import orcinus", "torch", "transformers", "numba", "numpy", "typer", "rich") == "[]"


def test_the_offline_path_needs_no_server_and_no_command_line() -> None:
    """A machine with a GPU may have torch, triton, transformers, numba and safetensors, and nothing else of ours."""
    others = ("typer", "rich", "fastapi", "uvicorn", "pydantic", "zmq", "msgspec", "httpx", "httptools", "matplotlib")
    assert loaded_by("import orcinus, orcinus.runtime.gpu.executor; orcinus.LLM()", *others) == "[]"


def test_the_checklist_needs_no_engine() -> None:
    assert loaded_by("import orcinus.conformance.checklist", "torch", "transformers", "numba", "fastapi", "zmq") == "[]"


def test_the_command_line_loads_no_client_before_it_is_asked_for() -> None:
    assert loaded_by("import orcinus.cli.main", "httpx", "orcinus.conformance") == "[]"


def test_every_dependency_is_pinned_for_our_own_installs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    for requirement in wanted:
        if requirement.startswith("orcinus-llm["):  # an extra that includes another
            continue
        assert re.split(r"[\[>]", requirement)[0].lower() in pinned, requirement
