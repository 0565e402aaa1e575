"""Every peer's own environment: .venv-peers/NAME at the root of the repository, made when it is first needed.

Transformers needs none: it is a dependency of Orcinus, and so both run on the very same torch.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
FOLDER = HERE.parents[1] / ".venv-peers"
LLAMA_CPP = "llama-cpp-python==0.3.36"  # whose source carries llama.cpp's
BUILD = {  # as llama.cpp's own builds, less what a server of one model needs not
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_BUILD_UI": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",
    "LLAMA_OPENSSL": "OFF",
}

Say = Callable[[str], None]  # what is going on now


class NotInstalled(Exception):
    """Why an environment could not be made, in one line."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a peer's Python is, and what makes it."""

    name: str
    after: Callable[[Environment, Say], None] | None = None  # what is left to do when the requirements are installed

    @property
    def folder(self) -> Path:
        return FOLDER / self.name

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def log(self) -> Path:
        return FOLDER / f"{self.name}-install.log"

    def make(self, say: Say) -> None:
        """Make it, unless it was made for the same requirements; go on where this was interrupted. Raises `NotInstalled`."""
        requirements = HERE / f"requirements-{self.name}.txt"
        made = hashlib.sha256(requirements.read_bytes() + repr((LLAMA_CPP, BUILD)).encode()).hexdigest()
        stamp = self.folder / "made"
        if stamp.exists() and stamp.read_text() == made:
            return
        begun = self.folder / "begun"
        if not (begun.exists() and begun.read_text() == made):
            shutil.rmtree(self.folder, ignore_errors=True)
        self.log.parent.mkdir(exist_ok=True)
        self.log.write_text("")
        say("making its environment")
        try:
            self.run([sys.executable, "-m", "venv", str(self.folder)], say)
            begun.write_text(made)
            self.pip(["install", "--no-deps", "-r", str(requirements)], say)
            if self.after:
                self.after(self, say)
        except NotInstalled:
            begun.unlink(missing_ok=True)  # what a failed step left is not built upon
            raise
        stamp.write_text(made)

    def pip(self, arguments: Sequence[str], say: Say) -> None:
        self.run([str(self.python), "-m", "pip", "--disable-pip-version-check", *arguments], say)

    def run(self, command: Sequence[str], say: Say) -> None:
        """Run a step, telling each line that says how far it is. Raises `NotInstalled` with the last line if it fails."""
        path = os.pathsep.join([str(self.python.parent), os.environ.get("PATH", "")])
        own = {"PATH": path, "GIT_CEILING_DIRECTORIES": str(FOLDER)}  # or llama.cpp takes our commit for its own
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | own
        last = ""
        with self.log.open("a") as log:
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            with subprocess.Popen(command, env=clean, start_new_session=True, **pipes) as step:
                try:
                    for line in step.stdout or ():
                        log.write(line)
                        last = line.strip() or last
                        if told := progress_in(last):
                            say(told)
                except BaseException:
                    os.killpg(step.pid, signal.SIGKILL)  # what it started, too, such as compilers
                    raise
        if step.returncode:
            raise NotInstalled(f"{' '.join(command[:4])} … failed: {last[:160]} (all of it in {self.log.name})")


def progress_in(line: str) -> str:
    """`[75/206] Building …` -> `compiling 75/206`, `Collecting torch==…` -> `fetching torch==…`; nothing for other lines."""
    if found := re.match(r"\[(\d+/\d+)\]", line):
        return f"compiling {found[1]}"
    if found := re.match(r"Collecting (\S+)", line):
        return f"fetching {found[1]}"
    return "installing" if line.startswith("Installing") else ""


def build_llama_server(environment: Environment, say: Say) -> None:
    """llama.cpp's server for this processor, from the source that its Python binding ships."""
    sources = environment.folder / "source"
    arguments = ["--no-deps", "--no-binary", ":all:", "--no-build-isolation", "-d", str(sources)]
    environment.pip(["download", *arguments, LLAMA_CPP], say)
    [archive] = sources.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        content.extractall(sources, filter="data")
    [source] = sources.glob("*/vendor/llama.cpp")
    build = environment.folder / "build"
    defined = [f"-D{name}={value}" for name, value in BUILD.items()]
    environment.run(["cmake", "-S", str(source), "-B", str(build), "-G", "Ninja", *defined], say)
    environment.run(["cmake", "--build", str(build), "--target", "llama-server", "-j", str(os.cpu_count() or 1)], say)
    shutil.copy2(build / "bin" / "llama-server", environment.python.parent)
    shutil.rmtree(build)
    shutil.rmtree(sources)


VLLM = Environment("vllm")
LLAMA = Environment("llama_cpp", build_llama_server)
