"""The one exception that a user's mistake raises, and what a wrong name was meant to be."""

import difflib
from collections.abc import Iterable
from typing import Any


class InputError(ValueError):
    """A wrong input, told in one paragraph: what was expected, what came, what to do.

    The command line prints the message alone and exits with status 2.
    """


def did_you_mean(name: str, known: Iterable[Any]) -> str:
    """The known name most like a wrong one, in brackets; empty where none is."""
    close = difflib.get_close_matches(name, [str(k) for k in known], n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


class LeftOut(UserWarning):
    """Some of a user's data are of no use, and were left out: a sentence that says how many."""
