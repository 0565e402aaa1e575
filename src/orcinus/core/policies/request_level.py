"""Request-level (static) batching: what serving systems did before Orca, and its baseline (Orca, section 2 and figure 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from orcinus.core.unserved import Reason
from orcinus.core.view import Grant, Selection, View
from orcinus.errors import ConfigError, shown


@dataclass(frozen=True, slots=True)
class RequestLevel:
    """A batch is fixed until its last request ends; only then the next requests are taken from the queue.

    `release` says when users see their answers: `batch`, when the whole batch has ended, as with FasterTransformer; or
    `each`, every request at its own end, which is kinder but no faster. A stop string is found by whoever reads the text,
    so under `batch` it shortens the answer but not the work.
    """

    steady: ClassVar[bool] = True
    release: Literal["batch", "each"] = "batch"

    def __post_init__(self) -> None:
        if self.release not in ("batch", "each"):
            raise ConfigError(f"release of the request-level policy must be 'batch' or 'each', not {shown(self.release)}")

    @property
    def holds_answers(self) -> bool:
        return self.release == "batch"

    def select(self, view: View) -> Selection:
        batch_goes_on = view.running or view.busy
        return Selection(map(Grant, view.running if batch_goes_on else view.waiting), otherwise=Reason.STATIC_BATCH)
