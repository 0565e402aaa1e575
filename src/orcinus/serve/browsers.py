"""Which web pages may call the server (origins, host names, CORS).

Any page can make its reader's browser send requests to a server on that machine, and a page's own host name can be made to mean
127.0.0.1 (DNS rebinding). A key keeps both out. Without one, the server relies on a browser's own headers: Origin,
Sec-Fetch-Site and Host, which a page cannot change. Other programs send no Origin and are not concerned.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from orcinus.serve.errors import ApiError
from orcinus.serve.origins import (
    EVERY,
    HOST,
    PORTS,
    WebOrigin,
    is_address,
    is_loopback,
    normal_host,
    parse_hosts,
    parse_origins,
)

Headers = Sequence[tuple[bytes, bytes]]
MOST_SHOWN = 200  # characters of a header shown in a message
PREFLIGHT_S = 600  # seconds for which a browser may remember a permission


class Browsers:
    """One server's rules for web pages; it listens at `bound`."""

    def __init__(self, bound: str, allow_origin: str | None = None, allow_host: str | None = None) -> None:
        self.bound = normal_host(bound)
        self.origins, self.hosts = parse_origins(allow_origin), parse_hosts(allow_host)
        self.everywhere = is_address(self.bound) and ip_address(self.bound).is_unspecified

    def check(self, headers: Headers) -> None:
        """Refuse requests that only a foreign web page can send.

        For servers without keys. Raises `ApiError` 403.
        """
        hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]  # none in HTTP/1.0, else one
        host = hosts[0] if hosts else ""
        if hosts and not self._answers_to(host):
            what = f"this server does not answer as {host[:MOST_SHOWN]!r}"
            raise ApiError(403, f"{what}: if that is its name, start it with --allow-host", code="host_not_allowed")
        origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
        for origin in origins:
            if not (self._allows(origin) or self._is_here(origin, host)):
                raise _foreign(f"pages of {origin[:MOST_SHOWN]!r}")
        site = [value.strip().lower() for name, value in headers if name == b"sec-fetch-site"]
        if b"cross-site" in site and EVERY not in self.origins and not (origins and all(map(self._allows, origins))):
            raise _foreign("pages of other sites")

    def cors(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        """Response headers that let the asking page read the response."""
        if not self.origins:
            return []
        found = [(b"vary", b"Origin")]
        origin = next((value for name, value in headers if name == b"origin"), b"")
        if origin and self._allows(origin.decode("latin-1")):
            shown = b"*" if EVERY in self.origins else origin
            found += [(b"access-control-allow-origin", shown), (b"access-control-expose-headers", b"*")]
        return found

    def preflight(self, method: str, headers: Headers) -> dict[str, str] | None:
        """The response to a CORS preflight; None for other requests.

        Raises `ApiError` 403.
        """
        told = dict(headers)
        if method != "OPTIONS" or b"origin" not in told or b"access-control-request-method" not in told:
            return None
        origin = told[b"origin"].decode("latin-1")
        if not (self._allows(origin) or self._is_here(origin, told.get(b"host", b"").decode("latin-1"))):
            raise _foreign(f"pages of {origin[:MOST_SHOWN]!r}")
        answer = {"Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, DELETE", "Access-Control-Max-Age": str(PREFLIGHT_S)}
        if wanted := told.get(b"access-control-request-headers"):
            answer["Access-Control-Allow-Headers"] = wanted.decode("latin-1")  # * would exclude Authorization
        if told.get(b"access-control-request-private-network") == b"true":
            answer["Access-Control-Allow-Private-Network"] = "true"
        return answer

    def _allows(self, origin: str) -> bool:
        """Whether `--allow-origin` lists this origin."""
        return EVERY in self.origins or ((parsed := WebOrigin.parse(origin)) is not None and parsed in self.origins)

    def _is_here(self, origin: str, host: str) -> bool:
        """Whether a page's origin is the host it calls.

        Behind TLS only the scheme may differ.
        """
        page, found = WebOrigin.parse(origin), HOST.fullmatch(host)
        if page is None or found is None or page.scheme not in PORTS:
            return False
        here = normal_host(found[1])
        same = page.host == here or (is_loopback(page.host) and is_loopback(here))
        return same and page.port == int(found[2] or PORTS[page.scheme])

    def _answers_to(self, host: str) -> bool:
        """Whether a Host header names this server.

        An address, unlike a name, cannot be made to mean another machine.
        """
        found = HOST.fullmatch(host)
        if found is None:
            return False
        name = normal_host(found[1])
        if is_loopback(name) or name == self.bound or (self.everywhere and is_address(name)):
            return True
        above = {"*." + name[at + 1 :] for at, char in enumerate(name) if char == "."}
        return bool(self.hosts & {EVERY, name, *above})


def _foreign(who: str) -> ApiError:
    message = f"{who} may not use this server: if they should, start it with --allow-origin, or with API keys"
    return ApiError(403, message, code="origin_not_allowed")
