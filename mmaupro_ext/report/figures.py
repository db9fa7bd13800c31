"""What all pictures share: colours, text sizes, axes, and saving them.

matplotlib is imported when a picture is asked for, and used without its global state, so that a
picture can be drawn in any thread and without a display.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmaupro_ext.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart with every common kind of colour vision and in grey.
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
VERMILION, PURPLE, SKY = "#D55E00", "#CC79A7", "#56B4E9"
INK, SOFT, FAINT = "#222222", "#6B6B6B", "#D9D9D9"
GREY, PALE_GREY, GRID = "#9A9A9A", "#CFCFCF", "#ECECEC"
DULL_PURPLE, PALE_PURPLE = "#8C6D9E", "#B9A6C4"

_FONT = "DejaVu Sans"
WEB_FONT = f"system-ui, '{_FONT}', sans-serif"

# Of the report's page, by the name of its CSS variable: on a light screen and on paper, on a dark screen.
_PAGE = {
    "ink": (INK, "#E8E8E8"),
    "soft": (SOFT, "#A8A8A8"),
    "faint": (FAINT, "#444444"),
    "paper": ("#FFFFFF", "#17191C"),
    "panel": ("#F6F7F8", "#202327"),
    "accent": (BLUE, SKY),
    "right": ("#00805F", "#3FC79A"),
    "wrong": ("#B04A00", "#F0A35E"),
    "mark": ("#FFE28A", "#6B5600"),
}

SUFFIXES = (".png", ".pdf", ".svg")

_STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": [_FONT],
    "font.size": 10,
    "text.color": INK,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelcolor": SOFT,
    "axes.labelsize": 9.5,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": SOFT,
    "ytick.color": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "grid.color": GRID,
    "legend.frameon": False,
    "legend.fontsize": 9,
    # Item texts are data: a dollar sign in a question is not the start of a formula.
    "text.parse_math": False,
    "svg.fonttype": "none",
}


def page_variables() -> str:
    """Return the CSS that names the colours and font of the report's page."""

    def colours(position: int) -> str:
        return " ".join(f"--{name}: {pair[position]};" for name, pair in _PAGE.items())

    dark = "@media screen and (prefers-color-scheme: dark)"
    font = f"--font: {WEB_FONT};"
    return f":root {{ {colours(0)} {font} }}\n{dark} {{ :root {{ {colours(1)} }} }}\n"


def check_target(path: str) -> Path:
    """Return the path of a picture to write, before any work is done for it.

    Parameters
    ----------
    path : str
        What the user typed after --figure.

    Returns
    -------
    pathlib.Path
        The same path.

    Raises
    ------
    ConfigError
        When matplotlib is missing, the ending is not one of `SUFFIXES`, or the folder does not
        exist.
    """
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise ConfigError(
            f"--figure {path}: pictures are written as {', '.join(SUFFIXES)}. "
            f"Name it {target.with_suffix('.png')}, for example."
        )
    if not target.absolute().parent.is_dir():
        raise ConfigError(f"--figure {path}: there is no folder {target.absolute().parent}.")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ConfigError(
            "--figure needs matplotlib, which is not installed. Get it with "
            "`pip install 'mmaupro-ext[plot]'`; the tables need nothing more (leave out --figure)."
        ) from None
    return target


@contextmanager
def canvas(target: Path, width: float, height: float, pad: float = 0.18) -> Iterator[Figure]:
    """Give an empty figure in the house style, and save it when the block ends.

    Parameters
    ----------
    target : pathlib.Path
        File to write.
    width, height : float
        Size in inches.
    pad : float
        Space around each panel in inches.

    Yields
    ------
    matplotlib.figure.Figure
        With constrained layout.

    Raises
    ------
    ConfigError
        When the file cannot be written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), facecolor="white")
        # Pads are inches, spaces are shares of a panel.
        figure.set_layout_engine("constrained", w_pad=pad, h_pad=pad, hspace=0.04, wspace=0.04)
        yield figure
        try:
            figure.savefig(target, dpi=150)
        except OSError as error:
            raise ConfigError(
                f"{target}: the picture cannot be written ({error.strerror or error}). "
                "Name another file."
            ) from error
