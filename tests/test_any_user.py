"""Another user's process: the code is read-only, there is no home, and perhaps no entry in the password file."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from orcinus import cache
from orcinus.cache import cache_folder, lend
from tests.commands import Done
from tests.product import part

ROOT = Path(__file__).parents[1]
NOBODY = 65534
READS_ALL = "-all,+dac_read_search"  # wherever Python and its libraries lie; it allows no writing


def nameless() -> int:
    """A user id that has no entry in the password file."""
    known = {entry.pw_uid for entry in pwd.getpwall()}
    return next(uid for uid in range(61_001, 62_000) if uid not in known)


def command_of(uid: int, *command: str | Path, **environment: str) -> list[str]:
    """A command as such a user, with nothing in the environment but what is said."""
    user = [f"--reuid={uid}", f"--regid={uid}", "--clear-groups", f"--inh-caps={READS_ALL}", f"--ambient-caps={READS_ALL}"]
    plain = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"} | environment
    settings = [f"{name}={value}" for name, value in plain.items()]
    return ["setpriv", *user, "env", "-i", *settings, *map(str, command)]


def why_not() -> str | None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return "needs root and setpriv to become another user"
    done = subprocess.run(command_of(NOBODY, sys.executable, "-c", "pass"), capture_output=True, text=True, check=False)
    if done.returncode:
        return f"another user cannot run Python here: {done.stderr}"
    folder = (ROOT / "src" / "orcinus").stat()
    return "the code can be written by everyone" if folder.st_mode & stat.S_IWOTH else None


REASON = why_not()
as_another_user = pytest.mark.skipif(REASON is not None, reason=str(REASON))


@pytest.fixture(scope="module")
def temporary() -> Iterator[Path]:
    """A folder for temporary files that anyone can use, like /tmp."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o1777)
        yield Path(folder)


def run(uid: int, commands: Sequence[Sequence[str]], **environment: str) -> list[Done]:
    """Commands in one process of such a user, in a working directory that cannot be written."""
    done = subprocess.run(
        command_of(uid, sys.executable, "-m", "tests.commands", **environment),
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        cwd="/",
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [Done(*one) for one in json.loads(done.stdout)]


ONE_KERNEL = ["--dtype", "float32", "--attention", "reference"]  # compiled, instead of twenty
WORKS: list[list[str]] = [
    ["info"],
    ["plan"],
    ["models"],
    ["generate", "Hi", "--max-tokens", "5", *ONE_KERNEL],
    ["chat", "--max-tokens", "5", *ONE_KERNEL],
    ["demo", "--max-tokens", "4", "--repeats", "1", *ONE_KERNEL],
    [
        "bench",
        "offline",
        "--workload",
        "fixed:tokens=8,fixed:tokens=4",
        "--requests",
        "2",
        "--repeats",
        "1",
        "--policy",
        "orca",
        *ONE_KERNEL,
    ],
    ["simulate", "--model", "llama-7b", "--device", "a100-40g", "--requests", "20"],
    ["sweep", "--model", "llama-7b", "--device", "a100-40g", "--requests", "20", "--vary", "max_batch_size=1"],
]
SAYS_WHY = {
    ("calibrate",): "cannot write orcinus-calibration.json",
    ("profile", "--json", "p.json"): "cannot write p.json",
    ("generate", "Hi", "--record", "steps.jsonl"): "cannot record to steps.jsonl",
    ("bench", "offline", "--out", "r.json"): "cannot write r.json",
    ("simulate", "--model", "llama-7b", "--device", "a100-40g", "--plot", "p.png"): "cannot draw p.png",
    ("generate", "Hi", "--model", "some/thing"): "some/thing is not in the cache",
    ("serve", "--access-log", "log"): "cannot write the access log log",
}


@as_another_user
@pytest.mark.parametrize(
    ("uid", "home"), part((NOBODY, {"HOME": "/"}), full=[(nameless(), {})]), ids=["no home", "no home and no name"]
)
def test_every_command_works_or_says_why_in_one_line(uid: int, home: dict[str, str], temporary: Path) -> None:
    picture = temporary / f"{uid}.png"  # a user cannot write over another user's
    draws = ["simulate", "--model", "llama-7b", "--device", "a100-40g", "--requests", "20", "--plot", str(picture)]
    works = WORKS if home else [["generate", "Hi", "--max-tokens", "5"]]
    done = run(uid, [*works, draws, *SAYS_WHY], TMPDIR=str(temporary), **home)
    worked, refused = done[: len(works) + 1], done[len(works) + 1 :]
    for one in worked:
        said = [line for line in one.stderr.splitlines() if not line.startswith(("- ", "! "))]  # a sweep judges its figures
        assert (one.returncode, said) == (0, []), one.args
        assert one.stdout, one.args
    for one, because in zip(refused, SAYS_WHY.values(), strict=True):
        assert one.returncode == 1, one.args
        assert because in one.stderr
        assert one.stderr.count("\n") == 1, one.stderr
    assert picture.stat().st_size > 1000
    kept = temporary / f"orcinus-cache-{uid}"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    assert list(kept.rglob("*.nbi")), "the kernel is there for the next process"


@pytest.mark.full
@as_another_user
def test_a_server_starts_answers_and_leaves(temporary: Path) -> None:
    command = command_of(
        NOBODY, sys.executable, "-m", "orcinus", "serve", "--port", "0", HOME="/", TMPDIR=str(temporary), PYTHONUNBUFFERED="1"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd="/", text=True, **pipes) as process:  # type: ignore[call-overload]
        found = re.search(r"at (http://\S+)", process.stdout.readline())
        assert found, process.communicate()[1]
        answer = httpx.post(f"{found[1]}/v1/completions", json={"prompt": "Hi", "max_tokens": 3}, timeout=60)
        assert answer.json()["usage"]["completion_tokens"] >= 1
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")


@as_another_user
def test_what_another_user_made_is_not_loaded(temporary: Path) -> None:
    """Root prepares the folder in which the user's cache would lie."""
    folder = temporary / "prepared"
    planted = folder / f"orcinus-cache-{NOBODY}"
    planted.mkdir(parents=True)
    for each in (folder, planted):
        each.chmod(0o1777 if each == folder else 0o777)
    code = "from orcinus.cache import cache_folder; print(cache_folder())"
    command = command_of(NOBODY, sys.executable, "-c", code, HOME="/", TMPDIR=str(folder))
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "None\n"


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of one's own, and nothing else that says where to keep a cache."""
    for variable in ("CACHE_DIRECTORY", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"):
        monkeypatch.delenv(variable, raising=False)
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(home))
    return home


def test_the_order_in_which_folders_are_tried(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == private / ".cache" / "orcinus"
    monkeypatch.setenv("XDG_CACHE_HOME", str(private / "xdg"))
    assert cache_folder() == private / "xdg" / "orcinus"
    monkeypatch.setenv("CACHE_DIRECTORY", f"{private / 'service'}:{private / 'other'}")
    assert cache_folder() == private / "service"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(private / "numba"))
    assert cache_folder() == private / "service"
    assert cache_folder("NUMBA_CACHE_DIR") == private / "numba"


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o702, 0o1777])
def test_a_folder_that_others_can_write_to_is_passed_over(private: Path, mode: int) -> None:
    kept = private / ".cache" / "orcinus"
    kept.mkdir(parents=True)
    kept.chmod(mode)
    assert cache_folder() == Path(tempfile.gettempdir()) / f"orcinus-cache-{os.geteuid()}"


@pytest.mark.parametrize(("mode", "trusted"), [(0o777, False), (0o775, False), (0o1777, True), (0o755, True)])
def test_so_is_one_below_a_folder_in_which_others_can_replace_it(private: Path, mode: int, trusted: bool) -> None:
    (private / ".cache").mkdir()
    (private / ".cache").chmod(mode)
    assert (cache_folder() == private / ".cache" / "orcinus") == trusted


def test_a_folder_that_the_user_named_and_that_is_passed_over_is_told_once(
    private: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shared = private / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(shared))
    cache._warn.cache_clear()
    for _ in range(2):
        assert cache_folder("NUMBA_CACHE_DIR") == private / ".cache" / "orcinus"
    assert caplog.messages == [f"NUMBA_CACHE_DIR={shared} is not used: other users may write to it"]


def test_a_link_is_judged_by_where_it_leads(private: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    (private / ".cache").mkdir()
    (private / ".cache" / "orcinus").symlink_to(shared)
    assert cache_folder() != private / ".cache" / "orcinus"


def test_without_any_folder_nothing_is_kept(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/proc/nothing"))
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/proc")
    assert cache_folder() is None
    monkeypatch.setenv("HOME", "/proc/nothing")
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    lend("MPLCONFIGDIR")
    assert "MPLCONFIGDIR" not in os.environ


def test_a_library_is_lent_a_folder_only_where_there_is_no_home(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLCONFIGDIR", "mine")
    monkeypatch.setenv("HOME", "/proc/nothing")
    monkeypatch.setenv("XDG_CACHE_HOME", str(private / "xdg"))
    lend("MPLCONFIGDIR")
    assert os.environ["MPLCONFIGDIR"] == "mine"
    monkeypatch.delenv("MPLCONFIGDIR")
    lend("MPLCONFIGDIR")
    assert os.environ["MPLCONFIGDIR"] == str(private / "xdg" / "orcinus" / "mplconfigdir")
    monkeypatch.delenv("MPLCONFIGDIR")
    monkeypatch.setenv("HOME", str(private))
    lend("MPLCONFIGDIR")
    assert "MPLCONFIGDIR" not in os.environ
