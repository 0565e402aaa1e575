"""Whether the hub answers at all, asked before it is asked for files.

`huggingface_hub` repeats each request for half a minute and more, also for files that are in its cache. A short question
first bounds the wait, and a model in the cache starts without a network.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

PROBE_S, ATTEMPTS = 5.0, 2  # so ten seconds at most
ANSWERED_S = 60.0  # for which an answer is believed
log = logging.getLogger(__name__)
_answered = float("-inf")  # when it last did


@contextmanager
def cache_alone_if_silent(failures: tuple[type[Exception], ...]) -> Iterator[Exception | None]:
    """Within the block nothing is asked of a hub that does not answer; yields why it is silent, None if it answers.

    `failures` are the errors of a connection.
    """
    from huggingface_hub import constants

    silence = None if constants.HF_HUB_OFFLINE else _silence(failures)
    if silence is None:
        yield None
        return
    log.warning("the hub at %s does not answer (%s): only its cache is used", constants.ENDPOINT, type(silence).__name__)
    constants.HF_HUB_OFFLINE = True
    try:
        yield silence
    finally:
        constants.HF_HUB_OFFLINE = False


def _silence(failures: tuple[type[Exception], ...]) -> Exception | None:
    """The error of the last attempt to get any answer; None if there was one."""
    global _answered
    from huggingface_hub import constants, get_session

    if time.monotonic() - _answered < ANSWERED_S:
        return None
    found: Exception | None = None
    for _ in range(ATTEMPTS):
        try:
            get_session().head(constants.ENDPOINT, timeout=PROBE_S)
        except failures as error:
            found = error
        else:
            _answered = time.monotonic()
            return None
    return found
