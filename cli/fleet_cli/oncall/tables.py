"""Plain text for a terminal, a pipe or a golden file: columns, ages, rates. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

GAP = "   "
NONE = "-"
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of left-aligned columns; what is empty or None shows as a dash."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    return [
        GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [list(head), *cells]
    ]


def plain(line: str) -> str:
    """Without what a terminal would obey: robots and pods may have written a part of it."""
    return "".join(
        one if one.isprintable() else " " if one.isspace() else f"\\x{ord(one):02x}" for one in line
    )


def age(seconds: float | None) -> str:
    """``45s``, ``3m``, ``5h``, ``4d``; a dash where it is not known."""
    if seconds is None:
        return NONE
    for unit, name, until in (
        (1.0, "s", 2 * MINUTE),
        (MINUTE, "m", 2 * HOUR),
        (HOUR, "h", 2 * DAY),
    ):
        if seconds < until:
            return f"{max(0, int(seconds / unit))}{name}"
    return f"{int(seconds / DAY)}d"


def size(count: int) -> str:
    """Bytes, as people read them."""
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:  # noqa: PLR2004 - decimal units
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} GB"


def _cell(value: object) -> str:
    return NONE if value is None or value == "" else str(value)
