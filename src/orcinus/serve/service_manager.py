"""Messages to a service manager: systemd's sd_notify protocol."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def notify(**states: object) -> None:
    """Send states, such as READY=1, to the service manager that started this process, if it listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    lines = "\n".join(f"{name}={value}" for name, value in states.items())
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.sendto(lines.encode(), "\0" + address[1:] if address[0] == "@" else address)
