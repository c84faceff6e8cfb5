"""Tables as text."""

from __future__ import annotations


def table(lines: list[tuple[str, ...]]) -> list[str]:
    """Return rows, of which the first names the columns, as lines of text with columns of one width."""
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
