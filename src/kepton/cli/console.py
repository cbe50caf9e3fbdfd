"""What every command says and how it ends."""

from rich.console import Console

CERTIFIED, FAILED, WRONG_INPUT, BUDGET_ENDED, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit statuses"""

console = Console(highlight=False, soft_wrap=True, markup=False)
stderr = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def complain(message: str) -> None:
    """Say on stderr what went wrong and what to do."""
    stderr.print(message, style="red" if stderr.is_terminal else None)
