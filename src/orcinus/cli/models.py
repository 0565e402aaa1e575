"""`orcinus models`: the architectures that can be loaded."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table


def models() -> None:
    """List the architectures that can be loaded, with models that have them.

    Any folder or hub repository whose config.json names one of these architectures works: `--model FOLDER` or
    `--model OWNER/NAME`. So does a GGUF file of one: `--model FILE`. Without --model the bundled model is used.
    """
    from orcinus.runtime.models import ARCHITECTURES
    from orcinus.tiny import MODEL_DIR

    table = Table("architecture", "models", title="Supported architectures", title_justify="left", box=None)
    for name, family in ARCHITECTURES.items():
        table.add_row(name, family.examples)
    console = Console()
    console.print(table)
    console.print(f"\nBundled model: {MODEL_DIR}", soft_wrap=True, highlight=False)
