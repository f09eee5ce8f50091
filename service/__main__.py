"""The command `regard`: its own subcommands, and those that other packages add through `regard.commands`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from service import logs
from service.app import create_app
from service.bundle import BundleError, first_fault
from service.comparison import Tools, table
from service.comparison import compare as compare_bundles
from service.dataset import DatasetError, read_inputs, size
from service.errors import Problem
from service.keys import make_key
from service.server import Server
from service.sessions import OutOfMemory, ProviderError
from service.settings import Settings, origins

app = typer.Typer(
    help="Regard: predictions with the attention maps behind them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Value = TypeVar("Value")
ModelsOption = Annotated[Path | None, typer.Option(help="Model repository; the built-in models if left out.")]
DeviceOption = Annotated[str | None, typer.Option(help="cpu or cuda:N.")]
HostOption = Annotated[str | None, typer.Option(help="Address to listen on.")]
PortOption = Annotated[int | None, typer.Option(help="Port to listen on.")]
ScopesOption = Annotated[
    list[str] | None, typer.Option(help="What it may do, predict or admin; predict if left out.")
]
DataArgument = Annotated[
    Path, typer.Argument(help="A folder of files, a .txt with a text on each line, or a .jsonl of texts.")
]
LimitOption = Annotated[int | None, typer.Option(help="Take the first so many inputs.", min=1)]
ConfigOption = Annotated[Path | None, typer.Option(help="Settings file (TOML).")]


@app.command()
def serve(
    models: ModelsOption = None,
    host: HostOption = None,
    port: PortOption = None,
    device: DeviceOption = None,
    config: ConfigOption = None,
) -> None:
    """Serve a model repository over HTTP. Options win over REGARD_* variables, those over the file."""
    settings = _settings(models=models, host=host, port=port, device=device, config=config)
    logs.configure(settings.log_format, settings.log_level)
    try:
        served = create_app(settings)
    except (BundleError, ProviderError) as error:
        _refuse(str(error))

    def drain() -> None:
        served.state.inference.draining = True

    Server(served, settings, on_drain=drain).run()


@app.command("config")
def show_config(
    models: ModelsOption = None,
    host: HostOption = None,
    port: PortOption = None,
    device: DeviceOption = None,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Print the settings that `serve` would have with these options, and where each comes from."""
    given = {"models": models, "host": host, "port": port, "device": device, "config": config}
    values = _settings(**given).model_dump(mode="json")
    sources = origins(_left_in(given))
    rows = {name: {"value": value, "from": sources.get(name, "default")} for name, value in values.items()}
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    shown = Table("setting", "value", "from", box=None)
    for name, row in rows.items():
        shown.add_row(name, Text(_plain(row["value"])), row["from"])
    Console().print(shown)


@app.command()
def key(
    name: Annotated[str, typer.Argument(help="The client's name.")],
    scope: ScopesOption = None,
) -> None:
    """Make an API key. It is printed this once; the settings hold its hash."""
    try:
        secret, made = make_key(name, scope or ["predict"])
    except ValidationError as error:
        raise typer.BadParameter(first_fault(error)) from None
    typer.echo(f"{secret}\n\nFor the settings file:\n")
    typer.echo(f'[[api_keys]]\nname = "{made.name}"\nsha256 = "{made.sha256.get_secret_value()}"')
    typer.echo(f"scopes = {json.dumps(made.scopes)}")


@app.command()
def predict(
    file: Annotated[Path, typer.Argument(help="A text, picture or clip.", exists=True, dir_okay=False)],
    maps: Annotated[
        Path | None, typer.Option(help="Folder for the maps, every one the model has.", file_okay=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model; the first of the file's family if left out.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Long side of drawn maps, in pixels.")] = None,
    models: ModelsOption = None,
    device: DeviceOption = None,
) -> None:
    """Predict one file, without a server; the answer goes to standard output as JSON."""
    from service.command import predict_file

    settings = _settings(models=models, device=device)
    try:
        answer, written = asyncio.run(predict_file(settings, file, model=model, maps=maps, size=size))
    except (Problem, BundleError, ProviderError, OSError) as error:
        _refuse(f"{file.name}: {error}")
    typer.echo(json.dumps(json.loads(answer), indent=2, ensure_ascii=False))
    for path in written:
        typer.echo(path, err=True)


@app.command()
def compare(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle.", file_okay=False)],
    other: Annotated[Path, typer.Argument(help="Folder of the bundle it is compared with.", file_okay=False)],
    data: DataArgument,
    limit: LimitOption = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file.", dir_okay=False)
    ] = None,
    device: DeviceOption = None,
) -> None:
    """Compare two bundles of one model: labels, logits and maps on the same inputs."""
    settings = _settings(device=device)
    try:
        with _counter("inputs", limit) as advance:
            inputs = map(advance, read_inputs(bundle, data, limit))
            found = compare_bundles(bundle, other, inputs, data=data.name, device=settings.device)
        if json_file is not None:
            json_file.write_text(found.model_dump_json(indent=2) + "\n")
    except (DatasetError, BundleError, ProviderError, OSError) as error:
        _refuse(f"compare refused: {error}")
    Console().print(table(found))


@app.command()
def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle to judge.", file_okay=False)],
    data: DataArgument,
    out: Annotated[
        Path | None, typer.Option(help="Folder for maps.md, maps.json and maps.svg.", file_okay=False)
    ] = None,
    limit: LimitOption = None,
    steps: Annotated[int, typer.Option(help="Steps in which a picture or clip is taken away.", min=2)] = 20,
    seed: Annotated[int, typer.Option(help="Of the random maps, of ties and of the intervals.", min=0)] = 0,
    device: DeviceOption = None,
) -> None:
    """Judge a model's maps beside random ones: are they faithful, and high where the truth is?"""
    from service.evaluation import report, run

    settings = _settings(device=device)
    if out is not None and find_spec("matplotlib") is None:
        _refuse("evaluate refused: --out draws a plot; install Regard with its extra evaluate")
    try:
        total = size(data) if limit is None else min(limit, size(data))
        with _counter("inputs", total) as advance:
            judged = run.evaluate(
                bundle, data, settings, limit=limit, steps=steps, seed=seed, advance=advance
            )
        if out is not None:
            report.write(judged, out)
    except (DatasetError, BundleError, ProviderError, OutOfMemory, OSError) as error:
        _refuse(f"evaluate refused: {error}")
    Console().print(report.table(judged))


@contextmanager
def _counter(what: str, total: int | None) -> Iterator[Callable[[Value], Value]]:
    """A bar on standard error that moves by one for each value that is passed through."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(what, total=total)

        def advance(value: Value) -> Value:
            progress.advance(bar)
            return value

        yield advance


def _refuse(reason: str) -> NoReturn:
    """End with one line that says why."""
    typer.secho(reason, fg="red", err=True)
    raise typer.Exit(1) from None


def _settings(**given: Any) -> Settings:
    """The settings with these options; ends with one line that names what is wrong, and where it stands."""
    given = _left_in(given)
    try:
        return Settings(**given)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise typer.BadParameter(f"{first_fault(error)} ({origins(given).get(name, 'default')})") from None
    except SettingsError as error:
        raise typer.BadParameter(str(error)) from None


def _left_in(given: dict[str, Any]) -> dict[str, Any]:
    """Options that were given."""
    return {name: value for name, value in given.items() if value is not None}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def main() -> None:
    """Entry point of the console script."""
    for entry in entry_points(group="regard.commands"):
        try:
            register = entry.load()
        except ModuleNotFoundError as error:
            if error.name != entry.module.partition(".")[0]:
                raise
            continue  # the runtime image holds the service alone: fewer subcommands
        register(app, Tools(read_inputs=read_inputs, compare=compare_bundles))
    app()


if __name__ == "__main__":
    main()
