"""Files that cannot be read: all named at once, or left out and, where pictures are drawn, replaced by others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from braintransfer.errors import BadInput
from braintransfer.recipes.samples import SourceImage

#: Gets a sentence on each file that is left out.
LeftOut = Callable[[str], None]
#: Sentences that one refusal holds at most; a set that is half there would have thousands.
MOST_NAMED = 500
#: What stands before and between the sentences of a refusal; the door puts each on a line of its own.
ARE_BAD, BETWEEN = " are bad: ", " | "


def refuse(bad: Sequence[str], of: str) -> None:
    """BadInput with the sentences on all bad files, one line; nothing where there are none. of: "900 pictures of camvid"."""
    if len(bad) == 1:
        raise BadInput(bad[0])
    if bad:
        more = f"{BETWEEN}and {len(bad) - MOST_NAMED} more" if len(bad) > MOST_NAMED else ""
        raise BadInput(f"{len(bad)} of {of}{ARE_BAD}{BETWEEN.join(bad[:MOST_NAMED])}{more}")


def same_pictures(root: Path, names: Mapping[str, Sequence[str]], what: str = "") -> list[str]:
    """A sentence on each picture that is there under several names. names: digest of a picture -> its names."""
    return [f"{root}: {what}{' and '.join(n)} are the same picture; keep one" for n in names.values() if len(n) > 1]


def drawn(
    name: str,
    order: np.ndarray,
    n: int,
    read: Callable[[int, list[int]], list[SourceImage]],
    left_out: LeftOut | None,
    per_file: int = 1,
) -> Iterator[SourceImage]:
    """The first `n` pictures of `order` (0: all), in the set's own order, file by file.

    Picture `i` is number `i % per_file` of file `i // per_file`; `read(file, numbers)` gives them or raises BadInput. A bad file stops
    the walk: the rest is read through, and one BadInput names every bad one. With `left_out` it is named there instead, and the
    next pictures of `order` take the place of those that it held, at the end. BadInput when too few can be read.
    """
    if n > len(order):
        raise BadInput(f"recipe {name}: {n} images asked for, {len(order)} are there; ask for fewer")
    wanted, rest = order[: n or len(order)], order[n or len(order) :]
    asked, bad, got = len(wanted), dict[int, str](), 0
    while len(wanted):
        for file in np.unique(wanted // per_file):
            numbers = np.sort(wanted[wanted // per_file == file] % per_file)
            try:
                items = read(int(file), [int(k) for k in numbers])
            except BadInput as error:
                bad[int(file)] = str(error)
                if left_out is not None:
                    left_out(str(error))
                continue
            if left_out is not None or not bad:
                got += len(items)
                yield from items
        if left_out is None:
            break
        rest = rest[~np.isin(rest // per_file, list(bad))]
        wanted, rest = rest[: asked - got], rest[asked - got :]
    if left_out is None:
        refuse(list(bad.values()), f"{len(np.unique(order[:asked] // per_file))} files of {name}")
    elif got < asked and n:
        raise BadInput(
            f"recipe {name}: {n} images asked for, {got} can be read and {len(bad)} files were left out; ask for fewer, or mend "
            f"them (`braintransfer data check {name}` names them)"
        )
    elif not got:
        raise BadInput(f"recipe {name}: no picture can be read; see `braintransfer data check {name}`")
