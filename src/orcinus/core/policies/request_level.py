"""Request-level (static) batching, the baseline of Orca (section 2, figure 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from orcinus.core.unserved import Reason
from orcinus.core.view import Selection, View, grants
from orcinus.errors import ConfigError, shown


@dataclass(frozen=True, slots=True)
class RequestLevel:
    """A fixed batch; new requests are admitted after its last one ends.

    `release` says when users get their answers: `batch`, when the whole batch has ended, as with FasterTransformer; or
    `each`, every request at its own end, which is kinder but no faster. Stop strings are found in the text, outside the
    engine, so under `batch` they shorten the answer but not the work.
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
        return Selection(grants(view.running if batch_goes_on else view.waiting), otherwise=Reason.STATIC_BATCH)
