"""Ranks on the nodes of a Ray cluster. The only module of the runtime that imports ray.

Ray finds the nodes and starts one task a rank; the task starts the same worker as on one machine and waits for its end. Batches
and results do not go through Ray: ranks connect to this process, and to each other.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util import get_node_ip_address, placement_group, remove_placement_group
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orcinus.errors import ConfigError, one_line
from orcinus.parent import describe_exit, killed_with_this, python_module
from orcinus.runtime.parallel.mesh import Mesh
from orcinus.runtime.parallel.rank_config import RankConfig
from orcinus.runtime.parallel.rendezvous import TcpRendezvous
from orcinus.runtime.parallel.start_local import WORKER
from orcinus.threads import thread_environment

PLACE_S = 60.0  # for the cluster to find room for a stage
MEET_S = 120.0


class RayLauncher:
    """Ranks as tasks of a Ray cluster, each with its own worker process.

    The tensor ranks of a stage are on one node, the stages on as many as it takes. This process must run on a node of the
    cluster. Raises `ConfigError` if there is no cluster at the address.
    """

    def __init__(self, address: str | None, mesh: Mesh, kind: str, threads: int | None = None) -> None:
        self.mesh, self.kind, self._threads = mesh, kind, threads
        self._connected_here = not ray.is_initialized()
        _connect(address)
        self.host: str = get_node_ip_address()
        self._rendezvous = TcpRendezvous.listen(self.host)
        self._store = self._rendezvous.store(mesh.at(0), MEET_S)
        self._groups: list[PlacementGroup] = []
        self._tasks: dict[int, Any] = {}  # rank -> what its task will return
        self._ended: dict[int, str] = {}

    def threads(self, mesh: Mesh) -> int:
        """What the user set; else the cluster's CPUs are divided, and those of the largest node hold a stage. On GPUs one."""
        if self._threads is not None:
            return self._threads
        if self.kind == "cuda":
            return 1
        nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        return max(1, min(sum(nodes) // mesh.size, max(nodes) // mesh.tp))

    def device(self, kind: str, rank: int) -> str:
        """The only GPU that Ray lets the task see, or the CPU."""
        return "cuda:0" if kind == "cuda" else kind

    def rendezvous(self, file: Path) -> str:
        return self._rendezvous.address

    def start(self, configs: Sequence[RankConfig]) -> None:
        resources = {"CPU": float(configs[0].threads)} | ({"GPU": 1.0} if self.kind == "cuda" else {})
        for stage in range(self.mesh.pp):
            group = placement_group([resources] * self.mesh.tp, strategy="STRICT_PACK")
            self._groups.append(group)
            self._wait_for(group, stage, resources)
        for config in configs:
            where = PlacementGroupSchedulingStrategy(self._groups[config.place.stage], config.place.tensor)
            options = {"num_cpus": resources["CPU"], "num_gpus": resources.get("GPU", 0), "max_retries": 0}
            task = ray.remote(run_worker).options(scheduling_strategy=where, **options)
            self._tasks[config.rank] = task.remote(config.encode(), config.threads)

    def _wait_for(self, group: PlacementGroup, stage: int, resources: Mapping[str, float]) -> None:
        try:
            ray.get(group.ready(), timeout=PLACE_S)
        except GetTimeoutError:
            wanted = " and ".join(f"{count * self.mesh.tp:g} {name}s" for name, count in resources.items())
            raise ConfigError(
                f"no node of the Ray cluster has {wanted} free for stage {stage} after {PLACE_S:g} s: add a node, or lower tp"
            ) from None

    def ended(self) -> Mapping[int, str]:
        going = {task: rank for rank, task in self._tasks.items() if rank not in self._ended}
        done, _ = ray.wait(list(going), num_returns=len(going), timeout=0) if going else ([], [])
        for task in done:
            self._ended[going[task]] = _how_it_ended(task)
        return self._ended

    def stop(self, grace_s: float) -> None:
        until = time.monotonic() + grace_s
        while len(self.ended()) < len(self._tasks) and time.monotonic() < until:
            time.sleep(0.05)
        for rank, task in self._tasks.items():
            if rank not in self._ended:
                ray.cancel(task, force=True)  # kills the process of the task, and the worker with it
        while len(self.ended()) < len(self._tasks):
            time.sleep(0.05)
        for group in self._groups:
            remove_placement_group(group)
        self._groups.clear()
        if self._connected_here:
            ray.shutdown()


def _connect(address: str | None) -> None:
    """Join the cluster, and leave signals as they are."""
    before = {sig: signal.getsignal(sig) for sig in (signal.SIGTERM, signal.SIGINT)}
    try:
        ray.init(address=address or "auto", log_to_driver=False, logging_level="error", ignore_reinit_error=True)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(f"no Ray cluster at {address or 'this node'}: {one_line(error)}") from error
    finally:
        if threading.current_thread() is threading.main_thread():  # in others, Ray leaves them alone, too
            for sig, handler in before.items():
                signal.signal(sig, handler)


def _how_it_ended(task: Any) -> str:
    try:
        return str(ray.get(task))
    except RayError as error:
        return f"is gone with its node or its Ray process ({type(error).__name__})"


def run_worker(config: bytes, threads: int) -> str:
    """A rank's worker on this node, from its start to its end; returns how it ended. A Ray task."""
    command = python_module(WORKER, str(os.getpid()))
    environment = os.environ | thread_environment(threads)
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, preexec_fn=killed_with_this()) as process:
        process.communicate(config)
    return describe_exit(process.returncode)
