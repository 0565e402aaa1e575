"""Errors of downloads, in one line that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from logging import LogRecord

from orcinus.errors import ModelError, one_line
from orcinus.runtime.hub_probe import cache_alone_if_silent

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


def unreachable() -> tuple[type[Exception], ...]:
    """What is raised where the hub does not answer, refuses, or may not be asked."""
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, *HfHubHTTPError.__bases__)  # the second is that of the HTTP client, which depends on the version


@contextmanager
def hub_errors(model: str, revision: str | None) -> Iterator[None]:
    """Raise errors of the hub, of the connection and of the disk as `ModelError`s.

    A hub that does not answer is not asked: the cache alone is used.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
        SafetensorsParsingError,
    )

    silence: Exception | None = None
    try:
        with _one_warning(), cache_alone_if_silent(unreachable()) as silence:
            yield
    except GatedRepoError:
        raise ModelError(f"{model} is gated: accept its licence on the hub, then {LOG_IN}") from None
    except RepositoryNotFoundError:
        raise ModelError(_not_found(model)) from None
    except RevisionNotFoundError:
        raise ModelError(f"{model} has no revision {revision or 'main'}: give a branch, a tag or a commit of it") from None
    except HFValidationError as error:
        raise ModelError(f"{model} is neither a local folder nor the name of a hub repository: {one_line(error)}") from None
    except SafetensorsParsingError:
        raise ModelError(f"{model} holds no weights in safetensors that can be read: convert them first") from None
    except unreachable() as error:
        raise ModelError(_unreachable(model, error, silence)) from None
    except RuntimeError as error:  # no home directory, hence no folder for downloads
        raise ModelError(_no_room(model, str(error))) from None


@contextmanager
def _one_warning() -> Iterator[None]:
    """Say once, not at each attempt, that a request is repeated."""
    from huggingface_hub.utils import logging

    told = False

    def keep(record: LogRecord) -> bool:
        nonlocal told
        first, told = not told, True
        if first:
            record.msg, record.args = "a request to the hub failed: trying again", ()
        return first

    handlers = logging.get_logger("huggingface_hub").handlers
    for handler in handlers:
        handler.addFilter(keep)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(keep)


def _not_found(model: str) -> str:
    from huggingface_hub import get_token

    private = LOG_IN if get_token() is None else "see that your token may read it"
    return f"no folder and no hub repository named {model}: check the spelling; if it is private, {private}"


def _unreachable(model: str, error: Exception, silence: Exception | None) -> str:
    from huggingface_hub import constants, errors

    if isinstance(error, OSError) and error.errno is not None:  # error of a local file, not of a connection
        where = f"{error.filename}: " if error.filename is not None else ""
        return _no_room(model, f"{where}{error.strerror}")
    reason = error.__cause__ if isinstance(error.__cause__, unreachable()) else error
    where = f"the hub at {constants.ENDPOINT}"
    status = getattr(getattr(reason, "response", None), "status_code", None)
    if status is not None:
        return _refused(model, where, status)
    if isinstance(reason, errors.OfflineModeIsEnabled) and silence is None:
        incomplete = getattr(errors, "IncompleteSnapshotError", ())  # which older versions do not tell
        part = "only partly" if isinstance(error, incomplete) else "not"
        where = f"{part} in the cache {constants.HF_HUB_CACHE}"
        return f"{model} is {where}, and HF_HUB_OFFLINE forbids downloads: unset HF_HUB_OFFLINE"
    where = f"{where} cannot be reached, or broke off ({type(silence or reason).__name__})"
    return f"{model} is not in the cache, and {where}: connect to the network and try again, or give the path of a folder"


def _refused(model: str, where: str, status: int) -> str:
    """What a status of the hub means."""
    from huggingface_hub import get_token

    if status == HTTPStatus.UNAUTHORIZED and get_token() is None:
        return _not_found(model)
    if status == HTTPStatus.UNAUTHORIZED:
        return f"{where} does not accept your token: {LOG_IN} to one that is valid"
    if status == HTTPStatus.FORBIDDEN:
        may = LOG_IN if get_token() is None else "give your token the right to read it"
        return f"{where} does not let you read {model}: accept its licence there, or {may}"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return f"{where} has had too many requests from here: try again later, or {LOG_IN}, which allows more"
    return f"{where} cannot send {model} (status {status}): try again later"


def _no_room(model: str, problem: str) -> str:
    unkept = f"{model} is not in the cache, and a download cannot be kept ({problem})"
    return f"{unkept}: make room, or set HF_HOME to a folder that you can write to"
