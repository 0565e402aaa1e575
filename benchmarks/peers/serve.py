"""Another engine's own server on the bundled model, for benchmarks over HTTP.

    python benchmarks/peers/serve.py vllm [--port 8001] [--max-batch-size 16] [--dtype float32]
    python benchmarks/overload_server.py --url http://127.0.0.1:8001

Makes the engine's environment if need be, and becomes its server. Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

import environments
from environments import LLAMA, VLLM

MODEL = Path(__file__).parents[2] / "src" / "orcinus" / "tiny" / "model"
CONTEXT = 512  # tokens of a request: prompts of 200 and answers of 128
KV_TYPES = {"float32": "f32", "bfloat16": "bf16"}


def vllm(asked: argparse.Namespace) -> list[str]:
    """vLLM with its own choice of processes and threads."""
    VLLM.make(print)
    os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_NO_USAGE_STATS": "1"}
    options = {"--max-num-seqs": asked.max_batch_size, "--max-model-len": CONTEXT, "--dtype": asked.dtype}
    module = "vllm.entrypoints.openai.api_server"  # `vllm serve` looks for a package of the name vllm, and this one is vllm-cpu
    return [str(VLLM.python), "-m", module, *_words({"--model": MODEL} | options | _place(asked))]


def llama_cpp(asked: argparse.Namespace) -> list[str]:
    """llama.cpp's server with a slot for each request of a batch."""
    LLAMA.make(print)
    file = Path(tempfile.gettempdir()) / f"orcinus-bundled-{os.getuid()}.gguf"
    subprocess.run([LLAMA.python, str(Path(__file__).parent / "gguf_file.py"), str(MODEL), str(file)], check=True)
    options = {
        "--model": file,
        "--threads": os.cpu_count() or 1,
        "--parallel": asked.max_batch_size,
        "--ctx-size": asked.max_batch_size * CONTEXT,
        "--cache-type-k": KV_TYPES[asked.dtype],
        "--cache-type-v": KV_TYPES[asked.dtype],
        "--flash-attn": "off" if asked.dtype == "float32" else "auto",
        "--cache-ram": 0,
    }
    return [str(LLAMA.folder / "bin" / "llama-server"), *_words(options | _place(asked))]


def _place(asked: argparse.Namespace) -> dict[str, object]:
    return {"--host": "127.0.0.1", "--port": asked.port}


def _words(options: dict[str, object]) -> list[str]:
    return [str(word) for pair in options.items() for word in pair]


PEERS = {"vllm": vllm, "llama.cpp": llama_cpp}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--max-batch-size", type=int, default=16)
    parser.add_argument("--dtype", choices=KV_TYPES, default="float32")
    parser.add_argument("--environments", type=Path, default=environments.FOLDER, help="folder of the peers' environments")
    asked = parser.parse_args()
    environments.FOLDER = asked.environments
    command = PEERS[asked.peer](asked)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
