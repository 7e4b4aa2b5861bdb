"""The error that a user can fix."""


class UserError(Exception):
    """Wrong input: its text is the one line that the user reads; the command exits with code 2."""


def first_line(error: Exception) -> str:
    """What an exception of a library says, at most 200 characters of its first line, for a `UserError`."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
