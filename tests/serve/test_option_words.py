"""Options as words, as `serve run` of Ray has them."""

from __future__ import annotations

import pytest

from orcinus.config import EngineConfig
from orcinus.errors import ConfigError
from orcinus.serve.option_words import options_of
from orcinus.sim.live_config import LiveConfig


def test_options_are_those_of_the_command_as_words() -> None:
    words = {"model": "m", "max_batch_size": "4", "strict": "true", "timeout": "2.5", "replicas": "3"}
    config, server = options_of(words | {"tp": 2})  # a number, as a configuration file of Ray Serve may have it
    assert config == EngineConfig(model="m", max_batch_size=4, tp=2)
    assert (server.strict, server.timeout, server.replicas) == (True, 2.5, 3)
    simulated, _ = options_of({"simulate": "llama-7b", "tp": "2", "speed": "4"})
    assert simulated == LiveConfig(model="llama-7b", tp=2, speed=4.0)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"max_batch_size": "many"}, "max_batch_size must be a number, not 'many'"),
        ({"strict": "maybe"}, "strict must be true or false"),
        ({"port": "80"}, "port is for orcinus serve: here the launcher decides"),
        ({"replace": "7"}, "replace is for orcinus serve"),
        ({"prot": "80"}, "unknown option 'prot': choose among"),
        ({"simulate": "llama-7b", "dtype": "float32"}, "unknown option 'dtype'"),
        ({"router": "none"}, "unknown router 'none'"),
    ],
    ids=str,
)
def test_wrong_options_are_refused(args: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        options_of(args)
