"""The one kind of error that a person can mend: a single line that says what is wrong, where, and what to do."""

from __future__ import annotations


class BadInput(Exception):
    """Something that the user gave cannot be used. The door and `make` end with exit code 2 on it.

    The message is one line; line breaks that came with an inner error are folded, and what could steer a terminal (in the
    name of a file, say) is shown as a question mark.
    """

    def __init__(self, message: object) -> None:
        line = " ".join(str(message).split())
        super().__init__("".join(c if c.isprintable() else "?" for c in line))
