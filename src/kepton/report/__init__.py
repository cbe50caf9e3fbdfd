"""The journal as one page that needs nothing else: what was asked, what came out, and why."""

from kepton.report.page import write_report

__all__ = ["write_report"]
