"""The rules of docs/architecture.md, kept by walking the source."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib

import pytest

from orcinus.core.kv import KV_MANAGERS
from orcinus.core.orders import ORDERS
from orcinus.core.policies import POLICIES
from tests.architecture.source import ROOT, TREES, Function, imports, part, under

# Each layer may import from itself (unless siblings are apart) and from those before it.
LAYERS: list[set[str]] = [
    {
        "core",
        "errors",
        "config",
        "cache",
        "clock",
        "control_groups",
        "disk_cache",
        "distribution",
        "files",
        "garbage",
        "gguf_config",
        "gguf_file",
        "model_config",
        "parent",
        "server_address",
        "socket_folder",
        "threads",
    },
    {"cost", "memory", "workload", "observe", "routing", "text", "conformance", "page"},
    {"sim", "runtime"},
    {
        "plan",
        "decode_speed",
        "local_models",
        "build",
        "llm",
        "calibrate",
        "profile",
        "verify",
        "machine_load",
        "interrupt",
        "licenses",
        "tiny",
        "plots",
    },
    {"serve"},
    {"batch_files"},
    {"bench"},
    {"papers"},
    {"cli", "__main__"},
]
APART = [{"sim", "runtime"}]
ONLY_UNDER = {
    "torch": {"runtime", "build", "cli/info.py"},
    "numba": {"runtime"},
    "triton": {"runtime"},
    "transformers": {"runtime", "text"},
    "gguf": {"runtime"},
    "typer": {"cli"},
    "matplotlib": {"plots"},
    "rich": {"cli"},
    "fastapi": {"serve"},
    "starlette": {"serve"},
    "uvicorn": {"serve"},
    "pydantic": {"serve"},
    "msgspec": {"serve", "batch_files", "bench", "runtime/parallel"},
    "opentelemetry": {"serve/otel.py"},
    "zmq": {"serve", "runtime/parallel"},
    "ray": {"runtime/parallel/start_ray.py", "serve/ray_app.py"},
    "httptools": {"serve", "bench"},
    "httpx": {
        "batch_files",
        "conformance",
        "cli/batch.py",
        "cli/conformance.py",
        "cli/chat_backends.py",
        "cli/server_metrics.py",
    },
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
    "prometheus_client",
    "uvloop",
    "gguf",  # which few models need
    "llguidance",  # compiled code that most processes never use
}
OWN_LAZY = {  # modules of ours that are imported inside functions: by whom, and why
    "orcinus.__main__": ("orcinus.cli", "`orcinus` says which Python it needs before anything else is loaded"),
    "orcinus.cli": ("orcinus", "a command loads what it runs, and `--help` none of it"),
    "orcinus.build": ("orcinus.runtime", "Triton, ZeroMQ and Ray"),
    "orcinus.runtime.ready_executor": ("orcinus.runtime.gpu", "Triton"),
    "orcinus.runtime.attention": ("orcinus.runtime", "Triton, and FlashAttention's package"),
    "orcinus.serve.tracing": ("orcinus.serve.otel", "OpenTelemetry, which is an extra"),
    "orcinus.serve.engines": ("orcinus", "a server of a simulation loads no torch"),
}


def layer(name: str) -> int:
    return next(index for index, names in enumerate(LAYERS) if name in names)


def test_layers() -> None:
    known, found = set().union(*LAYERS), []
    for name, tree in TREES.items():
        own = part(name)
        if own is None:  # orcinus/__init__.py, which loads its names lazily
            continue
        for other in {part(imported) for imported in imports(tree)} & known:
            assert other is not None
            apart = any({own, other} <= pair and own != other for pair in APART)
            if layer(other) > layer(own) or apart:
                found.append(f"{name} may not import {other}")
    assert found == []


def test_heavy_libraries_stay_where_they_belong() -> None:
    found = []
    for name, tree in TREES.items():
        place = name.removeprefix("orcinus.").replace(".", "/")
        for library in {imported.split(".")[0] for imported in imports(tree)} & set(ONLY_UNDER):
            homes = {home.removesuffix(".py") for home in ONLY_UNDER[library]}
            if not any(place == home or place.startswith(f"{home}/") for home in homes):
                found.append(f"{library} in {name}")
    assert found == []


def test_the_core_is_standard_library_only() -> None:
    forbidden = {"time", "threading", "asyncio", "logging", "socket", "subprocess", "random", "os", "io", "multiprocessing"}
    for module, tree in under("core").items():
        for name in imports(tree):
            top = name.split(".")[0]
            assert top in sys.stdlib_module_names | {"orcinus"}, f"{module}: {name} is not in the standard library"
            assert top not in forbidden, f"{module}: the core has no {top}"
            assert part(name) in (None, "core", "errors"), f"{module}: the core may not import {name}"


def test_the_checklist_is_a_black_box() -> None:
    for module, tree in under("conformance").items():
        for name in imports(tree):
            assert part(name) in (None, "conformance", "errors", "server_address"), (
                f"{module}: a checklist of servers may not import {name}"
            )


def test_there_is_no_import_cycle() -> None:
    """Imports inside functions count; those for type checkers alone do not."""
    graph = {name: (imports(tree, types=False) & set(TREES)) - {name} for name, tree in TREES.items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path, name])
        if name not in done:
            for other in graph[name]:
                visit(other, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_lazy_imports_are_the_listed_ones() -> None:
    found, used = set(), set()
    for name, tree in TREES.items():
        lazy = {imported for node in ast.walk(tree) if isinstance(node, Function) for imported in imports(node)}
        found |= {f"{name} imports {other}" for other in lazy if other.split(".")[0] not in LAZY | {"orcinus"}}
        by = next((each for each in OWN_LAZY if f"{name}.".startswith(f"{each}.")), None)
        for other in lazy:
            if by is not None and f"{other}.".startswith(f"{OWN_LAZY[by][0]}."):
                used.add(by)
            elif part(other) is not None:
                found.add(f"{name} imports {other}")
    assert found == set()
    assert used == set(OWN_LAZY), "an exception that is none any more"


def test_only_the_composition_root_asks_which_policy_order_or_manager_it_has() -> None:
    """Everything else asks protocols: `holds_answers`, `preallocates`, `stats`."""
    concrete = {made.__name__ for made in (*POLICIES.values(), *ORDERS.values(), *KV_MANAGERS.values())} | {"BlockPool"}
    for name in set(TREES) - {"orcinus.build"}:
        for node in ast.walk(TREES[name]):
            match node:
                case ast.Call(func=ast.Name("isinstance" | "issubclass"), args=[_, asked]) | ast.MatchClass(cls=asked):
                    pass
                case ast.Compare(left=ast.Call(func=ast.Name("type")), comparators=[asked]):
                    pass
                case _:
                    continue
            names = {each.id for each in ast.walk(asked) if isinstance(each, ast.Name)}
            assert not names & concrete, f"{name} asks for {names & concrete}"


def test_modules_and_public_names_are_documented() -> None:
    for name, tree in TREES.items():
        assert not tree.body or ast.get_docstring(tree), f"{name}: a module says what it is for"
        for node in tree.body:
            if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_") and not name.endswith(".decoder"):
                assert ast.get_docstring(node) or name.endswith(".main"), f"{name}.{node.name} has no docstring"


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


GENERATE = """
import contextlib, gc, sys
sys.argv[1:] = ["generate", "--max-tokens", "1", "Hi"]
from orcinus.__main__ import main
with contextlib.suppress(SystemExit):
    main()
print([name for name in {unwanted} if name in sys.modules], gc.get_threshold()[0])
"""


def test_a_command_that_answers_starts_with_what_it_uses() -> None:
    """Each of these takes a tenth of a second or more; Python's garbage collector took four tenths."""
    unwanted = ("transformers", "scipy", "llguidance", "huggingface_hub", "zmq", "msgspec", "fastapi", "httpx", "matplotlib")
    ours = ("orcinus.serve", "orcinus.sim", "orcinus.bench", "orcinus.runtime.parallel.executor", "orcinus.runtime.gpu")
    command = [sys.executable, "-c", GENERATE.format(unwanted=unwanted + ours)]
    for _ in range(2):  # the first process may have to ask transformers, and keeps the answers for the next one
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        if (loaded := done.stdout.splitlines()[-1]) == "[] 10000":
            break
    assert loaded == "[] 10000"


def test_the_checklist_needs_no_engine() -> None:
    assert loaded_by("import orcinus.conformance.checklist", "torch", "transformers", "numba", "fastapi", "zmq") == "[]"


def test_the_command_line_loads_a_command_when_it_is_asked_for() -> None:
    heavy = ("torch", "numpy", "jinja2", "httpx", "orcinus.conformance", "orcinus.bench", "orcinus.serve")
    assert loaded_by("import orcinus.cli.main", *heavy) == "[]"


def test_models_are_listed_without_torch() -> None:
    assert loaded_by("import orcinus.cli.models, orcinus.runtime.models", "torch", "transformers") == "[]"


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


WRITERS = {
    "orcinus.core.admission",
    "orcinus.core.advance",
    "orcinus.core.deltas",
    "orcinus.core.scheduler",
    "orcinus.sim.repeats",
}
PROGRESS = {"computed", "flights", "leaving", "newest_token"}  # fields that only a Request has


def test_compiled_functions_say_whether_sums_may_be_reordered() -> None:
    """Numba's own decorators would let a function take its flags from whichever kernel calls it first."""
    numbas = [
        (name, node.lineno)
        for name, tree in under("runtime").items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute | ast.Name) and ast.unparse(node) in ("numba.njit", "numba.jit", "njit", "jit")
    ]
    assert {name for name, _ in numbas} == {"orcinus.runtime.compiled"}, f"use `exact` or `reordered`: {numbas}"


def test_only_the_scheduler_and_its_parts_write_requests() -> None:
    """Principle 4 of the architecture. Others may make a request, and never change one."""
    found = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr in PROGRESS
        if ast.unparse(node.value) != "self"
    }
    assert found == WRITERS
