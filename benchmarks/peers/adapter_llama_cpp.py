"""llama.cpp's own server with a slot for each request of a batch: continuous batching, prompts and answers as token ids."""

from __future__ import annotations

import atexit
import http.client
import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import monotonic, perf_counter, sleep
from typing import Any

from environments import LLAMA_CPP
from gguf_file import QUANTIZED, write_gguf
from protocol import Ids, Load, Loaded, Ran, Run, serve

SERVER = Path(sys.prefix) / "bin" / "llama-server"
KV_TYPES = {"float32": "f32", "bfloat16": "bf16"}
FLASH_ATTENTION = {"float32": "off", "bfloat16": "auto"}  # on, its answers are less exact than float32
PATIENCE = 300  # seconds to load
GREEDY = {
    "temperature": 0.0,
    "samplers": ["top_k"],
    "top_k": 1,
    "ignore_eos": True,
    "return_tokens": True,
    "cache_prompt": False,
}


def load(asked: Load) -> tuple[Loaded, Run]:
    file = Path(asked.model) / f"model-{asked.quantization or asked.dtype}.gguf"
    if not file.exists():
        write_gguf(Path(asked.model), file, asked.quantization)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {
        "--threads": asked.threads,
        "--threads-batch": asked.threads,
        "--parallel": asked.max_batch_size,
        "--ctx-size": asked.max_batch_size * asked.max_model_len,
        "--cache-type-k": KV_TYPES[asked.dtype],
        "--cache-type-v": KV_TYPES[asked.dtype],
        "--flash-attn": FLASH_ATTENTION[asked.dtype],
        "--cache-ram": 0,  # prompts never come twice
    }
    arguments = [str(word) for pair in options.items() for word in pair]
    command = [str(SERVER), "--model", str(file), "--host", "127.0.0.1", "--port", str(port), *arguments]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    atexit.register(server.kill)
    wait_until_ready(server, port)
    settings = {name.lstrip("-"): value for name, value in options.items()}
    if asked.quantization:
        settings["weights"] = QUANTIZED[asked.quantization].name
    return Loaded(version(), settings), partial(run, port)


def version() -> dict[str, str]:
    said = subprocess.run([SERVER, "--version"], capture_output=True, text=True, check=True)
    return {"llama.cpp": (said.stdout + said.stderr).partition("version:")[2].split()[0], "source": LLAMA_CPP}


def wait_until_ready(server: subprocess.Popen[bytes], port: int) -> None:
    until = monotonic() + PATIENCE
    while monotonic() < until:
        if server.poll() is not None:
            raise RuntimeError(f"llama-server ended with status {server.returncode}")
        try:
            if request(port, "GET", "/health")[0] == 200:
                return
        except OSError:
            pass
        sleep(0.1)
    raise RuntimeError(f"llama-server was not ready after {PATIENCE} s")


def request(port: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """(status, parsed answer)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3600)
    try:
        connection.request(method, path, json.dumps(body) if body else None, {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def run(port: int, prompts: Ids, output_tokens: list[int]) -> Ran:
    start = perf_counter()

    def ask(prompt: list[int], count: int) -> tuple[list[int], float]:
        fields = ["tokens"]
        status, answer = request(
            port, "POST", "/completion", {"prompt": prompt, "n_predict": count, "response_fields": fields, **GREEDY}
        )
        if status != 200:
            raise RuntimeError(f"llama-server answered {status}: {answer}")
        return answer["tokens"], perf_counter() - start

    with ThreadPoolExecutor(len(prompts)) as clients:
        found = list(clients.map(ask, prompts, output_tokens))
    return Ran(perf_counter() - start, [ids for ids, _ in found], None, [ended for _, ended in found])


if __name__ == "__main__":
    os.environ["LLAMA_ARG_WEBUI"] = "0"
    serve(load)
