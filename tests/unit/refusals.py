"""What a refusal must be: one line, with the words that a person needs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from braintransfer.errors import BadInput


def said(error: pytest.ExceptionInfo[BadInput], *words: str) -> str:
    """The one line of a refusal, which has all these words."""
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return message


def refused(act: Callable[[], object], *words: str) -> str:
    """The one line with which `act` is refused."""
    with pytest.raises(BadInput) as error:
        act()
    return said(error, *words)
