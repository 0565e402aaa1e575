"""`orcinus`, also as `python -m orcinus`. Importing the commands takes a while, and Ctrl-C has to work before that."""

from __future__ import annotations

from orcinus import interrupt


def main() -> None:
    """Run the command line."""
    interrupt.leave_at_once()
    from orcinus.cli.main import run

    run()


if __name__ == "__main__":
    main()
