"""The table that the demo prints at its end."""

from itertools import zip_longest
from typing import NamedTuple


class Row(NamedTuple):
    """One line of the table: what it is, its figure per column, and how a figure is written."""

    name: str
    values: list[float | None]
    form: str = "{:.3f}"


def table(title: str, columns: list[str], rows: list[Row]) -> str:
    """`rows` under `columns` as text; a figure that a column does not have (None, or missing at the
    row's end) is a dash."""
    cells = [
        [row.name] + [_cell(row.form, value) for _, value in zip_longest(columns, row.values)]
        for row in rows
    ]
    grid = [[title, *columns], *cells]
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    lines = [
        "  ".join(
            [line[0].ljust(widths[0])]
            + [c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)]
        )
        for line in grid
    ]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:], rule])


def _cell(form: str, value: float | None) -> str:
    return "-" if value is None else form.format(value)
