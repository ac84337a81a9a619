"""Looking at every trace of a run, in the browser."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from star_rft.cli.shared import Quiet, RunDir, app, example, progress_of, run_folder


@app.command(epilog=example("star-rft view runs/quickstart"))
def view(
    run: RunDir,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The port; 0 takes any free one.", show_default="8320, or any")
    ] = None,
    opens: Annotated[bool, typer.Option("--open/--no-open", help="Open the browser.")] = True,
    quiet: Quiet = False,
) -> None:
    """Show every trace in the browser: search, filters, a prompt's attempts side by side. For this machine only."""
    from star_rft.build import settle
    from star_rft.build.sampling import policy_attempts
    from star_rft.cli.stopping import Stopped
    from star_rft.viewer.server import serve

    config = settle(str(run_folder(run)))
    try:
        serve(
            run,
            port=port,
            group_by=config.eval.group_by,
            own=policy_attempts(config),
            progress=partial(progress_of, quiet),
            say=typer.echo,
            opens=opens,
        )
    except (Stopped, KeyboardInterrupt):
        typer.echo("stopped looking; nothing was changed", err=True)
