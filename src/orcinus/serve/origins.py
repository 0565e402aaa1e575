"""Origins of web pages and names of hosts, in normal form."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

from orcinus.errors import ConfigError

ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[^\]/]+\]|[^\[\]:/@?#\s]+)(?::(\d{1,5}))?/?", re.IGNORECASE)
HOST = re.compile(r"(\[[^\]/]+\]|[^\[\]:/@?#\s]+)(?::(\d{0,5}))?")
NAME = re.compile(r"\*|(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
PORTS = {"http": 80, "https": 443}  # that an origin leaves out
EVERY = "*"


@dataclass(frozen=True, slots=True)
class WebOrigin:
    """A page's origin in normal form.

    `null` is that of pages without one, such as files.
    """

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> WebOrigin | None:
        """Parse an origin; None if it is none."""
        if text.lower() == "null":
            return cls("null", "", 0)
        found = ORIGIN.fullmatch(text)
        if not found:
            return None
        scheme = found[1].lower()
        return cls(scheme, normal_host(found[2]), int(found[3] or PORTS.get(scheme, 0)))


def normal_host(text: str) -> str:
    """A host in normal form: lower case, no final dot, no brackets."""
    host = text.lower().removesuffix(".")
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return host
    return str(address.ipv4_mapped or address) if isinstance(address, IPv6Address) else str(address)


def is_address(host: str) -> bool:
    """Whether a host is an address, not a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_url(text: str) -> bool:
    """Whether a text is the URL of a server that speaks HTTP."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, an open bracket
        return False


def is_loopback(host: str) -> bool:
    """Whether a normalised host is this machine's loopback."""
    return ip_address(host).is_loopback if is_address(host) else host == "localhost" or host.endswith(".localhost")


def parse_origins(text: str | None) -> frozenset[WebOrigin | str]:
    """The origins of `--allow-origin`; `*` is every one. Raises `ConfigError`."""
    found: set[WebOrigin | str] = set()
    for one in _listed(text):
        origin = EVERY if one == EVERY else WebOrigin.parse(one)
        if origin is None or (isinstance(origin, WebOrigin) and EVERY in origin.host):
            raise ConfigError(f"--allow-origin {one} is not an origin: write it like https://chat.example.org, or *")
        found.add(origin)
    return frozenset(found)


def parse_hosts(text: str | None) -> frozenset[str]:
    """The hosts of `--allow-host`, normalised. Raises `ConfigError`.

    `*.example.org` is every name below it, `*` any.
    """
    found = set[str]()
    for one in _listed(text):
        host = normal_host(one)
        if not (NAME.fullmatch(host) or is_address(host)):
            raise ConfigError(f"--allow-host {one} is not a host name: write it like llm.example.org, *.example.org or *")
        found.add(host)
    return frozenset(found)


def _listed(text: str | None) -> Iterable[str]:
    return filter(None, (one.strip() for one in (text or "").split(",")))
