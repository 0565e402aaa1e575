"""The server as an application of Ray Serve, on a cluster of this machine."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.serve.conftest import ENVIRONMENT

pytestmark = pytest.mark.full  # a cluster takes half a minute
if find_spec("ray") is None:
    pytest.skip("Ray is missing: pip install -c constraints.txt -e '.[cluster]'", allow_module_level=True)

OFF = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}
CLUSTER = """
import json, os, signal, subprocess, sys, time
import httpx, ray
from ray import serve

port = int(sys.argv[1])
sizes = {"num_cpus": 2, "object_store_memory": 80 * 2**20}
ray.init(address="local", include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False, **sizes)
serve.start(http_options={"host": "127.0.0.1", "port": port})
address = ray.get_runtime_context().gcs_address
options = ["simulate=llama-7b", "max_queue=2", "num_cpus=0.5", "api_key=secret", "speed=4"]
command = [sys.executable, "-m", "ray.serve.scripts", "run", "--address", address, "orcinus.serve.ray_app:app", *options]
running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
found = {}
http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, headers={"Authorization": "Bearer secret"})

def engines():
    return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and is_engine(pid)]

def wait_until_ready():
    until = time.monotonic() + 150
    while running.poll() is None and time.monotonic() < until:
        try:
            if http.get("/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)

try:
    wait_until_ready()
    body = {"prompt": "Once upon a time", "max_tokens": 12, "ignore_eos": True, "temperature": 0}
    found["whole"] = http.post("/v1/completions", json=body).json()
    with http.stream("POST", "/v1/completions", json=body | {"stream": True}) as answer:
        found["frames"] = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: {")]
    found["unknown"] = httpx.get(f"http://127.0.0.1:{port}/v1/models").status_code
    found["full"] = http.post("/v1/completions", json=body | {"n": 3}).json()
    with http.stream("POST", "/v1/completions", json=body | {"stream": True, "max_tokens": 1500}) as answer:
        next(answer.iter_lines())  # and hang up
    until = time.monotonic() + 30
    while http.get("/v1/requests/x/timeline").status_code == 404 and time.monotonic() < until:
        page = http.get("/metrics").text
        gauges = [line for line in page.splitlines() if line.startswith(("orcinus_num_requests_running", "orcinus_engine_up"))]
        if sorted(line.rsplit(" ", 1)[1] for line in gauges) == ["0.0", "1.0"]:
            found["left"] = gauges
            break
        time.sleep(0.1)
    (dead,) = engines()
    os.kill(dead, signal.SIGKILL)
    until = time.monotonic() + 150
    while (answer := http.post("/v1/completions", json=body)).status_code != 200 and time.monotonic() < until:
        time.sleep(0.5)
    found["again"] = answer.json()
    found["engines"] = engines()
finally:
    running.send_signal(signal.SIGINT)
    found["ended"] = running.wait(60)
    ray.shutdown()
    print(json.dumps(found))
"""
FIND = '''
def is_engine(pid):
    """Whether it serves this cluster: engines have the environment of the process that started Ray."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as line, open(f"/proc/{pid}/environ", "rb") as environment:
            return b"orcinus.serve.engine_loop" in line.read() and f"THIS_TEST={sys.argv[1]}".encode() in environment.read()
    except OSError:
        return False
'''


def test_it_answers_streams_refuses_and_leaves_no_process(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = tmp_path / "cluster.py"
    program.write_text(FIND + CLUSTER)
    command, env = [sys.executable, str(program), str(port)], ENVIRONMENT | OFF | {"THIS_TEST": str(port)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=400, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["whole"]["usage"]["completion_tokens"] == 12
    texts = [choice["text"] for frame in found["frames"] for choice in frame["choices"]]
    assert "".join(texts) == found["whole"]["choices"][0]["text"]
    assert len(texts) >= 12, "a token at a time"
    assert found["unknown"] == 401
    assert found["full"]["error"]["code"] == "too_many_answers"
    assert "left" in found, "a request whose client hung up runs no more"
    assert found["again"]["choices"] == found["whole"]["choices"], "Ray replaced the replica whose engine died"
    assert len(found["engines"]) == 1
    assert found["ended"] == 0
    assert not [pid for pid in found["engines"] if Path(f"/proc/{pid}").exists()]


def test_a_node_that_dies_takes_its_streams_with_it_and_the_others_serve_on() -> None:
    """Ray loses the streams of a dead replica. Clients see that they are incomplete, and may send them again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.serve.ray_nodes", str(port)]
    done = subprocess.run(command, env=ENVIRONMENT | OFF, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["streams"].keys() == {"whole", "RemoteProtocolError"}, "incomplete, which is told from complete"
    answers = found["answers"]
    assert answers.pop("right") > 10
    assert answers.keys() <= {"500 Internal Server Error"}
    assert sum(answers.values()) <= 3, "those on their way to the dead replica"
