"""The options of a server, besides its engine's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from orcinus.config import option
from orcinus.core.component_spec import make
from orcinus.errors import ConfigError, shown
from orcinus.routing.router import ROUTERS
from orcinus.serve.origins import is_loopback, is_url, normal_host, parse_hosts, parse_origins
from orcinus.text.tools.template_support import find_form

ON_DEATH = ("restart", "exit")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """A server's addresses, keys and limits.

    The text beside each field is its command-line help, too.
    """

    host: str = option("127.0.0.1", "Address to listen at.")
    port: int = option(8000, "Port; 0 = any that is free.", min=0, max=65535, short="-p")
    replicas: int = option(1, "Engines behind this server, each in a process of its own.", min=1)
    router: str = option(
        "least-outstanding",
        "How to choose a replica for a request: round-robin, least-outstanding, least-work or prefix-affine, with options.",
    )
    served_model_name: str | None = option(
        None, "The model's name in the API. Default: the repository, or the last part of the path."
    )
    tool_call_parser: str | None = option(
        None, "The form in which the model calls tools: hermes, llama3_json, ... Default: what its chat template shows."
    )
    max_queue: int = option(256, "Most answers at once, waiting or running; more get 429.", min=1)
    max_queue_tokens: int = option(2**20, "Most tokens at once, of prompts and answers; more get 429.", min=1)
    max_queue_per_key: int | None = option(None, "Most answers of one API key (without keys: of one user) at once.", min=1)
    timeout: float | None = option(None, "Most seconds a request may take; it may ask for less.", min=0.001)
    on_engine_death: str = option(
        "restart", "When an engine dies: restart = start it again and continue its requests; exit = leave with status 1."
    )
    watchdog: float = option(60.0, "Seconds after which a silent engine is killed.", min=1)
    drain: float = option(30.0, "Seconds that running requests have after SIGTERM.", min=0)
    drain_delay: float = option(0.0, "Seconds before, in which all is served and /ready is already 503.", min=0)
    replace: int | None = option(
        None, "Take the place of the running server with this process id, without refusing a connection.", min=1
    )
    api_key: str | None = option(
        None, "An API key, or several with commas. Others here can see it: better a file, or ORCINUS_API_KEY."
    )
    api_key_file: Path | None = option(None, "File with one API key per line.")
    admin_key_file: Path | None = option(None, "The same for keys that may also steer the scheduler; or ORCINUS_ADMIN_KEY.")
    insecure: bool = option(False, "Let other machines in without a key.")
    strict: bool = option(False, "Refuse unknown fields, instead of naming them in a header.")
    access_log: str | None = option(None, "File for one line of JSON per request; - = standard error.")
    otlp_endpoint: str | None = option(
        None, "Where to send traces (OpenTelemetry), such as http://localhost:4318; or OTEL_EXPORTER_OTLP_ENDPOINT."
    )
    allow_origin: str | None = option(None, "Origins of web pages that may call (CORS), with commas; * = all.")
    allow_host: str | None = option(
        None, "Host names, besides that of --host, under which a server without keys answers; with commas; * = any."
    )
    keep_alive: float = option(15.0, "Seconds after which a silent stream gets a comment.", min=0.1)
    no_page: bool = option(False, "Do not serve the page at /, which shows the scheduler at work and chats.")
    stream_interval_ms: float = option(0.0, "Least time between two frames of a stream; 0 = every token.", min=0)

    def __post_init__(self) -> None:
        if self.on_engine_death not in ON_DEATH:
            raise ConfigError(f"on_engine_death must be {' or '.join(ON_DEATH)}, not {shown(self.on_engine_death)}")
        for name in ("timeout", "watchdog", "drain", "drain_delay", "keep_alive", "stream_interval_ms"):
            if (value := getattr(self, name)) is not None and not math.isfinite(value):
                raise ConfigError(f"{name} must be a finite number, not {value}")
        if not is_url(self.otlp_endpoint or "http://none"):
            raise ConfigError(f"otlp_endpoint must be a URL such as http://localhost:4318, not {shown(self.otlp_endpoint)}")
        find_form(None, self.tool_call_parser)
        make("router", ROUTERS, self.router)
        parse_origins(self.allow_origin)
        parse_hosts(self.allow_host)

    def check_exposure(self, *, keys: bool) -> None:
        """Refuse to serve other machines without a key.

        The user may allow it explicitly. Raises `ConfigError`.
        """
        if not (is_loopback(normal_host(self.host)) or keys or self.insecure):
            raise ConfigError(
                f"other machines can reach {self.host}: give --api-key-file, or --insecure to serve every client without a key"
            )
