"""The command `orcinus`, also run as `python -m orcinus`.

Ctrl-C has to work while the commands are imported, which takes a while.
"""

from __future__ import annotations

from orcinus import garbage, interrupt


def main() -> None:
    """Run the command line."""
    interrupt.leave_at_once()
    garbage.collect_rarely()
    from orcinus.cli.main import run

    run()


if __name__ == "__main__":
    main()
