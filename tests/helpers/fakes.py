"""Stand-ins for what the driver talks to."""

from functools import partial
from typing import Any


class Calls:
    """A tracking queue that writes down what it is asked to do: (method, arguments ...).

    Args:
        answers: method -> what it returns.
    """

    def __init__(self, **answers: Any) -> None:
        self.made: list[tuple[Any, ...]] = []
        self._answers = answers
        self.now = self.soon = self.first = _Methods(self._note)
        self.trouble: str | None = None

    def _note(self, method: str, *arguments: Any) -> Any:
        self.made.append((method, *arguments))
        return self._answers.get(method)

    def check(self) -> None: ...


class _Methods:
    def __init__(self, note: Any) -> None:
        self._note = note

    def __getattr__(self, method: str) -> Any:
        return partial(self._note, method)
