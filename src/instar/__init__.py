"""Instar: closed-loop model building. Start reading at `instar.loop`."""

__version__ = "0.1.0"
