"""`regard export`: a subcommand that the service finds through the entry point group `regard.commands`.

Everything heavy is imported when the command runs, so that a server started from the same environment
never loads torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


def register(app: typer.Typer) -> None:
    """Add the subcommand to the `regard` command."""
    app.command()(export)


def export(
    source: Annotated[Path, typer.Argument(help="Folder of a checkpoint.", exists=True, file_okay=False)],
    out: Annotated[Path, typer.Option(help="Model repository: the bundle becomes OUT/NAME/VERSION.")],
    name: Annotated[
        str | None, typer.Option(help="Serve under this name instead of the checkpoint's.")
    ] = None,
) -> None:
    """Turn a checkpoint into a verified bundle."""
    from dataclasses import replace

    try:
        from export.errors import ExportError
        from export.pack import pack, steps
        from models.checkpoints import native
    except ModuleNotFoundError as error:
        typer.echo(f"{error.name} is missing: install Regard with its extras cpu and export", err=True)
        raise typer.Exit(1) from None
    try:
        checkpoint = native.load(source)
        if name is not None:
            checkpoint = replace(checkpoint, name=name)
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            bar = progress.add_task("load", total=steps(checkpoint))
            folder = pack(
                checkpoint, out, advance=lambda stage: progress.update(bar, advance=1, description=stage)
            )
            progress.update(bar, description="done")
    except (ExportError, ValueError, RuntimeError, OSError, KeyError) as error:
        typer.secho(f"export refused: {error}", fg="red", err=True)
        raise typer.Exit(1) from None
    typer.echo(folder)
