"""`python -m instar`: the command without its entry point."""

from instar.cli.main import main

main()
