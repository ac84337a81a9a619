"""The command line. Heavy imports live inside the commands, so that --help answers at once."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from star_rft.cli.app import app
from star_rft.cli.interrupts import Interruption, again, disk_fault, stop
from star_rft.errors import RunFailure, UserError

# isort: off
# in the order in which --help lists their commands
from star_rft.cli import init, run, compare, frontier, controls, evaluate, inspect, ledger, export
# isort: on

__all__ = ["app", "compare", "controls", "evaluate", "export", "frontier", "init", "inspect", "ledger", "main", "run"]


def main() -> None:
    """Run the command line. A mistake of the user ends in one line and status 2, a failure in one line and status 1.

    SIGINT and SIGTERM end it with status 130 and 143.
    """
    from verifiers.plugins import VerifierError

    stop.listen()
    sys.path.insert(0, str(Path.cwd()))  # so that "my_checks:function" is found beside the config
    try:
        app(prog_name="star-rft")  # also for `python -m`, whose completion script would name another program
    except (UserError, VerifierError) as error:
        _die(str(error), 2)
    except RunFailure as error:
        _die(str(error), 1)
    except Exception as error:
        if (what := disk_fault(error)) is None:
            raise
        _die(what, 1)
    except (Interruption, KeyboardInterrupt):
        typer.echo(f"stopped\nto begin again: {again()}", err=True)
        sys.exit(stop.status)


def _die(message: str, status: int) -> None:
    typer.echo(f"error: {message}", err=True)
    sys.exit(status)
