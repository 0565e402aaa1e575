"""A Ray cluster of three nodes on this machine; one of them dies under a stream: `python -m tests.serve.ray_nodes PORT`.

The head has no CPU for replicas, so each of the others has one. Prints as JSON what clients saw.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from typing import Any

import httpx
import ray
from ray import serve
from ray._private import services
from ray.cluster_utils import Cluster

from orcinus.serve.ray_app import app

BODY = {"prompt": "Once upon a time", "ignore_eos": True, "temperature": 0}
LONG = BODY | {"max_tokens": 1500, "stream": True}
STREAMS = 6


class Stream(threading.Thread):
    """One stream, read to its end."""

    def __init__(self, http: httpx.Client) -> None:
        super().__init__()
        self.http, self.begun, self.lines, self.ended = http, threading.Event(), list[str](), ""

    def run(self) -> None:
        """Read it; `ended` says how it ended."""
        try:
            with self.http.stream("POST", "/v1/completions", json=LONG) as answer:
                for line in answer.iter_lines():
                    self.lines += [line] if line else []
                    self.begun.set()
            self.ended = "whole" if self.lines[-1] == "data: [DONE]" else "cut off"
        except httpx.TransportError as error:
            self.ended = type(error).__name__
        self.begun.set()


def wait_until_it_serves(http: httpx.Client, replicas: int) -> None:
    """Wait until so many replicas answer."""
    until = time.monotonic() + 240
    while time.monotonic() < until:
        status = serve.status().applications["default"].deployments["Orcinus"]
        if status.replica_states.get("RUNNING", 0) == replicas and http.get("/ready").status_code == 200:
            return
        time.sleep(0.2)


def main(port: int) -> dict[str, Any]:
    """What clients saw."""
    found: dict[str, Any] = {}
    services.get_node_ip_address = lambda *_, **__: "127.0.0.1"  # no other machine is asked
    sizes = {"include_dashboard": False, "node_ip_address": "127.0.0.1", "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=sizes | {"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1, node_ip_address="127.0.0.1", object_store_memory=80 * 2**20) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port, "location": "HeadOnly"})
    serve.run(app({"simulate": "llama-7b", "speed": "1", "num_replicas": "2", "num_cpus": "1"}), blocking=False)
    http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120)
    try:
        wait_until_it_serves(http, 2)
        expected = http.post("/v1/completions", json=BODY | {"max_tokens": 12}).json()["choices"]
        streams = [Stream(http) for _ in range(STREAMS)]
        for stream in streams:
            stream.start()
        for stream in streams:
            stream.begun.wait(60)
        cluster.remove_node(nodes[0], allow_graceful=False)
        died = time.monotonic()
        answers = Counter[str]()
        while time.monotonic() < died + 20:
            try:
                answer = http.post("/v1/completions", json=BODY | {"max_tokens": 12}, timeout=60)
                right = answer.status_code == 200 and answer.json()["choices"] == expected
                answers["right" if right else f"{answer.status_code} {answer.text[:200]}"] += 1
            except httpx.TransportError as error:
                answers[type(error).__name__] += 1
        for stream in streams:
            stream.join(120)
        found |= {"streams": Counter(stream.ended for stream in streams), "answers": answers}
    finally:
        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()
    return found


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
    sys.stdout.flush()
    os._exit(0)  # Ray's threads may wait for nodes that are gone
