"""Whether a server sends traces, and where: by its options and OpenTelemetry's environment variables."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from orcinus.distribution import needs
from orcinus.errors import ConfigError, one_line, shown

if TYPE_CHECKING:
    from orcinus.serve.otel import Tracer

SIGNAL = "/v1/traces"  # the path of traces below a base URL (OTLP/HTTP)
PROTOCOL = "http/protobuf"
log = logging.getLogger(__name__)


def open_tracer(endpoint: str | None) -> Tracer | None:
    """The sender of traces to a base URL, or where the environment says; None if no traces are asked for.

    Raises `ConfigError` if it cannot be made. If only the environment asks, which may be meant for other programs, that is
    a warning.
    """
    if not (endpoint or _in_environment()):
        return None
    try:
        with needs("sending traces", "otel"):
            from orcinus.serve.otel import Tracer
        if (protocol := _set("PROTOCOL") or PROTOCOL) != PROTOCOL:
            raise ConfigError(f"OTEL_EXPORTER_OTLP_PROTOCOL is {shown(protocol)}, but traces are sent as {PROTOCOL}: unset it")
        try:
            return Tracer(None if endpoint is None else endpoint.rstrip("/").removesuffix(SIGNAL) + SIGNAL)
        except (ValueError, RuntimeError) as error:  # of the libraries, about what they read in the environment
            raise ConfigError(f"cannot send traces: {one_line(error)}") from None
    except ConfigError as error:
        if endpoint:
            raise
        log.warning("no traces: %s", error)
        return None


def _in_environment() -> bool:
    """Whether OpenTelemetry's variables ask for traces."""
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none"
    return bool(_set("ENDPOINT")) and not off


def _set(name: str) -> str | None:
    """The value of an OTLP variable: that of traces, else that of all signals."""
    return os.environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}") or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}")
