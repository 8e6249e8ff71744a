"""Numbers of the tables that proofs left in book/proof, for the prose of a page: it pulls them, and none is typed."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from braintransfer import tables
from braintransfer.errors import BadInput

#: Which rows: column -> the text (or number) of its cell, or several of which one has to stand there.
Where = Mapping[str, object]
#: A number in a cell: "0.56", "−1.75", "2,000", "2.2e-16"; no part of a name such as F1 or ds002748.
_NUMBER = re.compile(r"(?<![\w.])[-−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[-+]?\d+)?")


def short(value: float, digits: int = 2) -> str:
    """A number as prose writes it, without the zero before the point: ".56", "−.17", "1.20"."""
    return re.sub(r"^(−?)0\.", r"\1.", tables.number(value, digits))


class Kept:
    """The tables of one folder. Cells hold one number or several: "0.56 (0.49 to 0.65)", "× 1.24", "−1.75; n = 89 of 3"."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, name: str) -> Path:
        path = self.folder / f"{name}.csv"
        if not path.is_file():
            raise BadInput(
                f"{path} is missing; run `braintransfer prove` and copy its table there, or take its page out"
            )
        return path

    def cell(self, name: str, column: str, where: Where, n: int = 1, digits: int = 2) -> str:
        """The `n`-th number in a cell of `name`.csv, rounded to `digits`, as prose writes it.

        `cell("lesions_apart", "AUC (95 % interval)", {"Told apart": "..."}, 3)` is the upper end of an interval.
        BadInput unless exactly one row fits `where`.
        """
        found = self._rows(name, (column,), where)
        if len(found) > 1:
            places = ", ".join(str(place) for place in found)
            raise BadInput(f"{name}.csv, column {column!r}: rows {places} fit {dict(where)}, and only one should")
        return short(float(self.column(name, column, where, n)[0]), digits)

    def column(self, name: str, column: str | Sequence[str], where: Where | None = None, n: int = 1) -> np.ndarray:
        """The `n`-th number of each row that fits `where`, to be counted or summed up: `column("metrics", "masks").max()`.

        column: one, or several whose numbers follow each other. BadInput where no row fits or a cell has no such number.
        """
        columns = (column,) if isinstance(column, str) else tuple(column)
        numbers = []
        for place, row in self._rows(name, columns, where or {}).items():
            for wanted in columns:
                held = _NUMBER.findall(row[wanted])
                if not 1 <= n <= len(held):
                    raise BadInput(f"{name}.csv, column {wanted!r}, row {place}: no number {n} in {row[wanted]!r}")
                numbers.append(float(held[n - 1].replace("−", "-").replace(",", "")))
        return np.array(numbers)

    def _rows(self, name: str, columns: Sequence[str], where: Where) -> dict[int, dict[str, str]]:
        """The rows that fit, by their number; the first below the header is 1."""
        with self.file(name).open(encoding="utf-8", newline="") as opened:
            reader = csv.DictReader(opened)
            rows, titles = list(reader), reader.fieldnames or ()
        for column in (*columns, *where):
            if column not in titles:
                raise BadInput(f"{name}.csv has no column {column!r}; it has {', '.join(titles)}")
        wanted = {
            column: {str(v) for v in (value if isinstance(value, list | tuple) else [value])}
            for column, value in where.items()
        }
        found = {k: row for k, row in enumerate(rows, 1) if all(row[c] in values for c, values in wanted.items())}
        if not found:
            raise BadInput(f"{name}.csv, column {columns[0]!r}: none of {len(rows)} rows fits {dict(where)}")
        return found
