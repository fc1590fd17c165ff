"""The command line: ``gossamer COMMAND ...``; thin, every command calls one room."""

from gossamer.cli.main import main

__all__ = ["main"]
