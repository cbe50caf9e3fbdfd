"""`python -m kepton.cli`: the command line."""

from kepton.cli import main

main()
