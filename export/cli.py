"""`regard export`: a subcommand that the service finds through the entry point group `regard.commands`.

Everything heavy is imported when the command runs, so that a server started from the same environment
never loads torch.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

INTERRUPTED = 130


def register(app: typer.Typer) -> None:
    """Add the subcommand to the `regard` command."""
    app.command()(export)


def export(
    source: Annotated[str, typer.Argument(help="Folder or file of a checkpoint, or OWNER/NAME on the hub.")],
    out: Annotated[Path, typer.Option(help="Model repository: the bundle becomes OUT/NAME/VERSION.")],
    name: Annotated[str | None, typer.Option(help="Serve under this name instead of the source's.")] = None,
    architecture: Annotated[
        str | None, typer.Option(help="Read the source as this, whatever its config and keys look like.")
    ] = None,
    labels: Annotated[str | None, typer.Option(help="File with the labels' names, or imagenet-1k.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="A tokenizer.json, or a folder with one.")] = None,
) -> None:
    """Turn a checkpoint into a verified bundle."""
    from dataclasses import replace

    with _refusals(), _stages() as progress:
        from export.pack import pack, steps
        from models.checkpoints.checkpoint import Choices
        from models.checkpoints.read import read

        bar = progress.add_task("read")
        choices = Choices(architecture=architecture, labels=labels, tokenizer=tokenizer)
        checkpoint = read(source, choices)
        if name is not None:
            checkpoint = replace(checkpoint, name=name)
        progress.update(bar, total=steps(checkpoint))
        folder = pack(
            checkpoint, out, advance=lambda stage: progress.update(bar, advance=1, description=stage)
        )
        progress.update(bar, description="done")
    typer.echo(folder)


@contextmanager
def _stages() -> Iterator[Progress]:
    """A bar on standard error that names the stage."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield progress


@contextmanager
def _refusals() -> Iterator[None]:
    """What a source or an export can refuse becomes one line; SIGTERM ends as tidily as an interrupt."""

    def stop(number: int, frame: Any) -> NoReturn:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        from export.errors import ExportError
        from models.checkpoints.checkpoint import CheckpointError

        yield
    except ModuleNotFoundError as error:
        typer.echo(f"{error.name} is missing: install Regard with its extras cpu and export", err=True)
        raise typer.Exit(1) from None
    except (ExportError, CheckpointError, OSError) as error:
        typer.secho(f"export refused: {error}", fg="red", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.secho("interrupted; nothing was written", fg="red", err=True)
        raise typer.Exit(INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, previous)
