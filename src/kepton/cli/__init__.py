"""The command line."""

from kepton.cli.app import app, main

__all__ = ["app", "main"]
