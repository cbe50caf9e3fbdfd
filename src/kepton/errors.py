"""The one exception that a user's mistake raises."""


class InputError(ValueError):
    """A wrong input, told in one paragraph: what was expected, what came, what to do.

    The command line prints the message alone and exits with status 2.
    """
