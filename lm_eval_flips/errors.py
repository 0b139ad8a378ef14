"""The exceptions of this package; the command line prints their message and exits with 2."""

from __future__ import annotations


class FlipsError(ValueError):
    """Input that cannot be judged: the message says what, which and the way out.

    Example:
        >>> try:
        ...     raise FlipsError("task 'arc_easy': doc 3 appears twice")
        ... except ValueError as error:
        ...     print(error)
        task 'arc_easy': doc 3 appears twice
    """


class OtherBaselineError(FlipsError):
    """Distances that were measured from another baseline than the one at hand."""


class NotJudgedError(FlipsError):
    """Runs that hold nothing but answers that only a judge can grade, and that none did yet."""


class HarnessError(FlipsError, SystemExit):
    """A FlipsError raised inside the harness.

    Also a SystemExit, so that the stock lm_eval command ends with the message and no traceback.

    Example:
        >>> HarnessError("the baseline has no samples").code
        'error: the baseline has no samples'
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = f"error: {message}"


def named(items: list[str] | list[int], *, shown: int = 5) -> str:
    """Name the first few items of a list and count the rest.

    Example:
        >>> named([2, 9, 17, 21], shown=2)
        '2, 9 and 2 more'
    """
    head = ", ".join(str(item) for item in items[:shown])
    rest = len(items) - shown
    return f"{head} and {rest} more" if rest > 0 else head
