"""The error of commands that cannot be understood."""


class BadInput(ValueError):
    """Invalid user input; the message explains it in one line."""


def at_least(name: str, value: float, low: float = 1) -> None:
    if not value >= low:
        raise BadInput(f"{name} must be at least {low}, but got {name}={value}")
