"""The one kind of error that a person can mend: a single line that says what is wrong, where, and what to do."""

from __future__ import annotations


class BadInput(Exception):
    """Something that the user gave cannot be used. The door and `make` end with exit code 2 on it.

    The message is one line; line breaks that came with an inner error are folded.
    """

    def __init__(self, message: object) -> None:
        super().__init__(" ".join(str(message).split()))
