"""The name on a package index, what a missing library's message says, and a wheel in an empty environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

import orcinus
from orcinus import distribution
from orcinus.errors import ConfigError
from tests.commands import ENVIRONMENT

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_one_name_and_one_version() -> None:
    assert PROJECT["name"] == distribution.NAME == "orcinus-llm"
    assert PROJECT["version"] == orcinus.__version__
    assert PROJECT["scripts"] == {"orcinus": "orcinus.__main__:main"}
    extras = [name for extra in PROJECT["optional-dependencies"].values() for name in extra if name.startswith("orcinus")]
    assert extras == ["orcinus-llm[serve,plots,otel]", "orcinus-llm[serve]", "orcinus-llm[serve]"], (
        "an extra that names the distribution names ours"
    )


def test_no_file_tells_to_install_what_is_not_ours() -> None:
    files = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("src/**/*.py"),
        *ROOT.glob("benchmarks/**/*.py"),
        ROOT / "Makefile",
        ROOT / "pyproject.toml",
    ]
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert "orcinus[" not in text, file
        assert "install orcinus " not in text, file


def test_in_a_clone_the_command_names_the_clone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert distribution.clone() == ROOT
    monkeypatch.chdir(ROOT)
    assert distribution.how_to_install("serve") == "make serve, or pip install -e '.[serve]'"
    assert distribution.how_to_install("bench") == "pip install -e '.[bench]'"
    monkeypatch.chdir(tmp_path)
    assert distribution.how_to_install("bench") == f"in {ROOT}: pip install -e '.[bench]'"


def test_in_an_installation_it_names_the_distribution(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    site = tmp_path / "lib" / "site-packages" / "orcinus"
    monkeypatch.setattr(distribution, "__file__", str(site / "distribution.py"))
    site.mkdir(parents=True)
    (tmp_path / "lib" / "pyproject.toml").touch()  # of something else
    assert distribution.clone() is None
    assert distribution.how_to_install("serve") == "pip install 'orcinus-llm[serve]'"


def test_a_broken_library_is_told_from_a_missing_one_and_our_own_defects_stay() -> None:
    with pytest.raises(ConfigError, match=r"the server needs zmq: .*\[serve\]'$"), distribution.needs("the server", "serve"):
        raise ModuleNotFoundError("No module named 'zmq'", name="zmq")
    broken = r"needs zmq, which cannot be imported \(libzmq.so.5: no such file\): "
    with pytest.raises(ConfigError, match=broken), distribution.needs("the server", "serve"):
        raise ImportError("libzmq.so.5: no such file", name="zmq")
    for ours in ("orcinus.serve.nothing", None):
        with pytest.raises(ImportError, match="ours"), distribution.needs("the server", "serve"):
            raise ImportError("ours", name=ours)


WITHOUT = """
import json, sys
sys.modules.update(dict.fromkeys(["matplotlib", "zmq", "fastapi", "uvicorn", "httpx", "httpx_sse", "httptools"]))
from orcinus import LLM, SamplingParams
from tests.commands import orcinus
url = ["--url", "http://127.0.0.1:9"]
bench = [["bench", "serve", *url], ["bench", "sweep", *url, "--rates", "1"]]
plots = [["simulate", "--plot", "x.png"], ["sweep", "--vary", "rate=1,2", "--plot", "x.png"], ["reproduce", "--write", "."]]
plots += [["bench", "papers", "--plot", sys.argv[1]], ["bench", "report", "x.json"]]
needing = [["serve"], ["chat", *url], ["conformance", *url], *bench, *plots]
load = ["--workload", "fixed:tokens=8,fixed:tokens=4", "--requests", "2", "--repeats", "1"]
plain = [["demo", "--repeats", "1", "--max-tokens", "4"], ["bench", "offline", *load, "--out", f"{sys.argv[1]}/result.json"]]
plain += [["simulate", "--requests", "3"], ["reproduce", "--list"]]
done = [{" ".join(one[:2]): orcinus(*one) for one in commands} for commands in (needing, plain)]
found = [{name: (one.returncode, one.stdout, one.stderr) for name, one in commands.items()} for commands in done]
print(json.dumps([*found, LLM().generate(["Hi"], SamplingParams(max_tokens=4))[0].text]))
"""


EXTRAS = {
    "serve": ["serve", "chat --url", "conformance --url"],
    "bench": ["bench serve", "bench sweep"],
    "plots": ["simulate --plot", "sweep --vary", "reproduce --write", "bench papers", "bench report"],
}


@dataclass(frozen=True, slots=True)
class Bare:
    """What commands did where no extra is installed, (status, output, errors), and an answer of the Python API."""

    needing: dict[str, tuple[int, str, str]]  # commands that need an extra
    plain: dict[str, tuple[int, str, str]]
    answer: str


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Bare:
    command = [sys.executable, "-c", WITHOUT, tmp_path_factory.mktemp("bare")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=ENVIRONMENT, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return Bare(*json.loads(done.stdout))


def test_every_command_says_what_to_install_for_a_missing_library(bare: Bare) -> None:
    assert set(bare.needing) == {command for commands in EXTRAS.values() for command in commands}
    for extra, commands in EXTRAS.items():
        for command in commands:
            status, _, errors = bare.needing[command]
            assert status == 1, command
            assert errors.count("\n") == 1, errors
            assert f"pip install -e '.[{extra}]'" in errors, command


def test_what_draws_no_picture_and_serves_nothing_works_without_extras(bare: Bare) -> None:
    assert bare.answer
    assert len(bare.plain) == 4
    for command, (status, output, errors) in bare.plain.items():
        assert status == 0, (command, errors)
        assert output, command


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources, without a network."""
    if find_spec("setuptools") is None:
        pytest.skip("needs setuptools to build a wheel")
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split()[-1]


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    assert wheel.name == f"orcinus_llm-{orcinus.__version__}-py3-none-any.whl"
    wanted = {
        file.relative_to(ROOT / "src").as_posix()
        for file in (ROOT / "src" / "orcinus").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    names = set(zipfile.ZipFile(wheel).namelist())
    info = {name for name in names if name.startswith(f"orcinus_llm-{orcinus.__version__}.dist-info/")}
    assert names - info == wanted
    assert {name for name in names if "/tiny/" in name and name.endswith(".py")} == {"orcinus/tiny/__init__.py"}, (
        "the model only"
    )
    assert any(name.endswith("LICENSE") for name in info)


@pytest.mark.full
def test_it_works_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """Which sees the libraries of this one; from another folder, and with nothing of the clone on its path."""
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(tmp_path / "venv")}))
    clone = {ROOT, ROOT / "src"}
    others = [path for path in sys.path if path and Path(path).is_dir() and Path(path).resolve() not in clone]
    (site / "shared.pth").write_text("\n".join(others) + "\n")
    pip = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--disable-pip-version-check",
        "--ignore-installed",
    ]
    clean = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("PYTHON")}

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=clean, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(*pip, wheel)
    command = tmp_path / "venv" / "bin" / "orcinus"
    assert str(site) in run(python, "-c", "import orcinus; print(orcinus.__file__)")
    assert run(command, "--version").strip() == PROJECT["version"]
    assert "4.0 M" in run(command, "info")
    answer = run(command, "generate", "What is Orca?", "--max-tokens", "20")
    assert "orca" in answer.lower()
    missing = "import sys; sys.modules['zmq'] = None; sys.argv[1:] = ['serve']; from orcinus.__main__ import main; main()"
    done = subprocess.run([python, "-c", missing], capture_output=True, text=True, cwd=tmp_path, env=clean, check=False)
    assert done.stderr == "error: the server needs zmq: pip install 'orcinus-llm[serve]'\n"
    assert os.fspath(ROOT) not in run(
        python, "-c", "import orcinus.distribution as d; print(d.clone(), d.how_to_install('serve'))"
    )
