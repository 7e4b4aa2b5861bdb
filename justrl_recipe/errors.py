"""The error that a user can fix."""


class UserError(Exception):
    """Wrong input: its text is the one line that the user reads; the command exits with code 2."""
