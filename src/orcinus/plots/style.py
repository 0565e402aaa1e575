"""The common look of all pictures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

from orcinus.cache import lend
from orcinus.distribution import needs
from orcinus.errors import ConfigError
from orcinus.files import can_write

# The colours of Okabe and Ito (2008), which remain apart for every kind of colour vision; black comes last.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
CHARACTERS_PER_INCH, HANDLE = 15, 8  # of a legend's letters; letters that the sample of a line takes the place of
LONGEST = 36  # characters of a name in a title, or in a legend of many columns
LONGEST_RUN = 64  # of a name that is made of several settings: those that tell runs apart stand at its end
BAND: dict[str, Any] = {"alpha": 0.2, "linewidth": 0}  # between the ends of intervals
MATPLOTLIB_FOLDER = "MPLCONFIGDIR"  # without a home it would say on standard error that it made one
WIDE = 20  # times the smallest value: beyond that an axis is logarithmic


def styles() -> list[dict[str, str]]:
    """Colour and dash of a plot's lines, in order."""
    return [{"color": colour, "linestyle": dash} for dash, colour in product(DASHES, COLOURS)]


def mixed_styles() -> list[dict[str, str]]:
    """Colour and dash of each line, distinct even without colours."""
    lines = len(COLOURS) * len(DASHES)  # all different, because four and seven have no common divisor
    return [{"color": COLOURS[line % len(COLOURS)], "linestyle": DASHES[line % len(DASHES)]} for line in range(lines)]


def legible(name: str, longest: int = LONGEST) -> str:
    """A name that the font can draw, without formulas and line breaks."""
    require_matplotlib()
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties())).get_char_index
    shown = "".join(letter if letter.isprintable() and known(ord(letter)) else "?" for letter in " ".join(name.split()))
    short = shown if len(shown) <= longest else shown[: longest - 1] + "…"
    return (f" {short}" if short.startswith("_") else short).replace("$", r"\$")  # a legend leaves out names that begin with _


def legend_below(place: Any, title: str = "") -> None:
    """A legend below the picture; its title names the varying option."""
    shown, names = place.get_legend_handles_labels()
    if names:
        room = int(place.figure.get_figwidth() * CHARACTERS_PER_INCH)
        columns = max(1, min(len(names), room // (max(map(len, names)) + HANDLE)))
        place.figure.legend(
            shown, names, loc="outside lower center", ncols=columns, fontsize=8, title=title or None, title_fontsize=8
        )


def require_matplotlib() -> None:
    """Raise `ConfigError`, with what to install, if matplotlib is missing."""
    lend(MATPLOTLIB_FOLDER)
    with needs("a picture", "plots"):
        import matplotlib

        matplotlib.use("Agg")


def check_picture(path: str | Path) -> None:
    """Raise `ConfigError` early if a picture cannot be written."""
    require_matplotlib()
    path = Path(path)
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"cannot draw {path}: its name must end in .png, .svg or .pdf")
    if not can_write(path):
        raise ConfigError(f"cannot draw {path}: it cannot be written there")


@contextmanager
def picture(path: str | Path, rows: int, columns: int, width: float = 4.2, height: float = 3.2) -> Iterator[Any]:
    """Axes of shape [rows, columns], written to the file at the end.

    The file name's ending gives the format: png, svg or pdf. Raises `ConfigError` if it cannot be written.
    """
    require_matplotlib()
    from matplotlib import pyplot

    plain: dict[Any, Any] = {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.3,
    }
    with pyplot.rc_context({**plain, "legend.frameon": False, "svg.hashsalt": "orcinus", "figure.dpi": 110}):
        figure, axes = pyplot.subplots(
            rows, columns, figsize=(width * columns, height * rows), squeeze=False, layout="constrained"
        )
        try:
            yield axes
            layout = figure.get_layout_engine()
            assert layout is not None
            layout.execute(figure)
            figure.set_layout_engine(None)  # with one, everything is drawn twice
            figure.savefig(path, metadata={"Date": None} if str(path).endswith(".svg") else None)
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot draw {path}: {error}") from None
        finally:
            pyplot.close(figure)


def plain_log(axis: Any, most: int = 100) -> None:
    """Plain numbers at 1, 2, 5, 10, … on a logarithmic axis.

    Only at 1, 10, 100, … if there would be more than `most`.
    """
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    low, high = axis.get_view_interval()
    every = high < low * 10 ** (most / 3)
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if every else (1.0,)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())
