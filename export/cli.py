"""`regard export` and `regard inspect`, found by the service through the entry point group `regard.commands`.

Everything heavy is imported when the command runs, so that a server started from the same environment
never loads torch.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from export.lowering import Tools
    from models.checkpoints.checkpoint import Checkpoint

INTERRUPTED = 130


class Heads(StrEnum):
    """Whose number of heads holds."""

    CONFIG = "config"
    PAPER = "paper"


SourceArgument = Annotated[
    str, typer.Argument(help="Folder or file of a checkpoint, or OWNER/NAME on the hub.")
]
ArchitectureOption = Annotated[
    str | None, typer.Option(help="Read the source as this, whatever its config and keys look like.")
]
LabelsOption = Annotated[str | None, typer.Option(help="File with the labels' names, or imagenet-1k.")]
TokenizerOption = Annotated[Path | None, typer.Option(help="A tokenizer.json, or a folder with one.")]
HeadsOption = Annotated[
    Heads | None,
    typer.Option(help="Whose number of heads holds where an X-CLIP's config differs from the paper."),
]


def register(app: typer.Typer, tools: Tools) -> None:
    """Add the subcommands to the `regard` command; `tools` are what export needs of the service."""
    app.command(context_settings={"obj": tools})(export)
    app.command()(inspect)


def export(
    context: typer.Context,
    source: SourceArgument,
    out: Annotated[Path, typer.Option(help="Model repository: the bundle becomes OUT/NAME/VERSION.")],
    name: Annotated[str | None, typer.Option(help="Serve under this name instead of the source's.")] = None,
    architecture: ArchitectureOption = None,
    labels: LabelsOption = None,
    tokenizer: TokenizerOption = None,
    heads: HeadsOption = None,
    precision: Annotated[
        Literal["fp32", "fp16", "int8"], typer.Option(help="What the graphs compute in.")
    ] = "fp32",
    data: Annotated[
        Path | None,
        typer.Option(
            help="Inputs to measure a lower precision on, as `regard compare` takes them; int8 of a "
            "convolutional network also finds its ranges on them.",
            exists=True,
        ),
    ] = None,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Write a lower precision however much it loses.")
    ] = False,
) -> None:
    """Turn a checkpoint into a verified bundle."""
    from dataclasses import replace

    if precision == "fp32" and (data is not None or accept_loss):
        raise typer.BadParameter("--data and --accept-loss are for --precision fp16 and int8")
    with _refusals("export"), _stages() as progress:
        from export.lowering import Lowering
        from export.pack import pack, steps

        lowering = None
        if precision != "fp32":
            lowering = Lowering(precision=precision, tools=context.obj, data=data, accept_loss=accept_loss)

        bar = progress.add_task("read")
        checkpoint = _read(source, architecture, labels, tokenizer, heads)
        if name is not None:
            checkpoint = replace(checkpoint, name=name)
        progress.update(bar, total=steps(checkpoint, lowering))
        folder = pack(
            checkpoint,
            out,
            lowering=lowering,
            advance=lambda stage: progress.update(bar, advance=1, description=stage),
        )
        progress.update(bar, description="done")
    typer.echo(folder)


def inspect(
    source: Annotated[str, typer.Argument(help="A bundle, or what `regard export` takes.")],
    architecture: ArchitectureOption = None,
    labels: LabelsOption = None,
    tokenizer: TokenizerOption = None,
    heads: HeadsOption = None,
) -> None:
    """Show what a bundle or a checkpoint holds."""
    with _refusals("inspect"):
        from export import inspection
        from export.pack import checked, describe
        from service import bundle

        folder = Path(source)
        if (folder / bundle.MANIFEST).is_file():
            manifest = bundle.read(folder)
            found = inspection.tables(manifest, inspection.sizes_of_bundle(folder, manifest))
        else:
            checkpoint = _read(source, architecture, labels, tokenizer, heads, unnamed=True)
            described = describe(checkpoint, *checked(checkpoint))
            found = inspection.tables(described, inspection.sizes_of_source(checkpoint))
    Console().print(found)


def _read(
    source: str,
    architecture: str | None,
    labels: str | None,
    tokenizer: Path | None,
    heads: Heads | None,
    *,
    unnamed: bool = False,
) -> Checkpoint:
    from models.checkpoints.checkpoint import Choices
    from models.checkpoints.read import read

    return read(
        source,
        Choices(
            architecture=architecture,
            labels=labels,
            tokenizer=tokenizer,
            heads=None if heads is None else heads.value,
            unnamed=unnamed,
        ),
    )


@contextmanager
def _stages() -> Iterator[Progress]:
    """A bar on standard error, where that is a terminal, that names the stage."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress


@contextmanager
def _refusals(command: str) -> Iterator[None]:
    """A refusal becomes one line; every signal to stop ends a command as tidily as an interrupt."""

    def stop(number: int, frame: Any) -> NoReturn:
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        from export.errors import ExportError
        from models.checkpoints.checkpoint import CheckpointError
        from service.bundle import BundleError

        yield
    except ModuleNotFoundError as error:
        typer.echo(f"{error.name} is missing: install Regard with its extras cpu and export", err=True)
        raise typer.Exit(1) from None
    except (ExportError, CheckpointError, BundleError, OSError) as error:
        typer.secho(f"{command} refused: {error}", fg="red", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.secho(f"{command} interrupted", fg="red", err=True)
        raise typer.Exit(INTERRUPTED) from None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
