"""The command `regard`: serve, predict, and what other packages add through `regard.commands`."""

from __future__ import annotations

import asyncio
import json
import logging
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import uvicorn
from pydantic import ValidationError

from service.app import create_app
from service.bundle import BundleError
from service.errors import Problem
from service.sessions import ProviderError
from service.settings import Settings

app = typer.Typer(
    help="Regard: predictions with the attention maps behind them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ModelsOption = Annotated[Path | None, typer.Option(help="Model repository; the built-in models if left out.")]
DeviceOption = Annotated[str | None, typer.Option(help="cpu or cuda:N.")]


@app.command()
def serve(
    models: ModelsOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    device: DeviceOption = None,
) -> None:
    """Serve a model repository over HTTP. Every REGARD_* setting holds; options win."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = _settings(models=models, host=host, port=port, device=device)
    try:
        served = create_app(settings)
    except (BundleError, ProviderError) as error:
        _refuse(str(error))
    uvicorn.run(
        served,
        host=settings.host,
        port=settings.port,
        log_config=None,
        timeout_graceful_shutdown=settings.grace_seconds,
    )


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


def _refuse(reason: str) -> NoReturn:
    """End with one line that says why."""
    typer.secho(reason, fg="red", err=True)
    raise typer.Exit(1) from None


def _settings(**given: Any) -> Settings:
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise typer.BadParameter(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def main() -> None:
    """Entry point of the console script."""
    for entry in entry_points(group="regard.commands"):
        try:
            register = entry.load()
        except ModuleNotFoundError as error:
            if error.name != entry.module.partition(".")[0]:
                raise
            continue  # the runtime image holds the service alone: fewer subcommands
        register(app)
    app()


if __name__ == "__main__":
    main()
