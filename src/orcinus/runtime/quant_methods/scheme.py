"""What the settings of a quantised checkpoint say about its modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from orcinus.runtime.quant_methods.layout import CodeLayout
from orcinus.runtime.weight_files import TensorHeader


class Scheme(Protocol):
    """Checked settings of one checkpoint."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the settings has no effect here, one line each."""
        ...

    def layout(self, module: str, headers: Mapping[str, TensorHeader]) -> CodeLayout | None:
        """How a module is stored, by its name and its tensors' headers; None if it is plain.

        Raises `ModelError` if the settings do not say.
        """
        ...


@dataclass(frozen=True, slots=True)
class OneLayout:
    """All quantised modules are stored alike."""

    of_all: CodeLayout
    is_quantized: Callable[[Mapping[str, TensorHeader]], bool]  # by the headers of a module's tensors
    notes: tuple[str, ...] = ()

    def layout(self, module: str, headers: Mapping[str, TensorHeader]) -> CodeLayout | None:
        del module
        return self.of_all if self.is_quantized(headers) else None
