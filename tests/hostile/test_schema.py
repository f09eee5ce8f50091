"""schemathesis against the OpenAPI document: what is asked and what is answered is as it says."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events, from_schema
from schemathesis.python.asgi import shutdown_lifespans

from service.app import create_app
from service.settings import DEMO, Settings


@pytest.fixture(scope="module")
def app() -> Iterator[FastAPI]:
    """The built-in models; schemathesis starts it, and is told to end it."""
    yield create_app(Settings(models=DEMO, slots=2))
    shutdown_lifespans()


CHECKS = {
    # Whether a model takes what the document allows (a text for a model of pictures, a tensor of another
    # type) is the model's to say, not the document's; so is whether bytes are a picture.
    "positive_data_acceptance": {"enabled": False},
}
OPERATIONS = [
    # That a model is not ready is an answer here, and its status is the protocol's.
    {
        "include-path-regex": "ready",
        "checks": {"not_a_server_error": {"expected-statuses": ["2xx", "4xx", 503]}},
    },
]
UNLOAD = "/unload$"  # asked at the end: there is little to ask afterwards


def found(app: FastAPI, examples: int) -> list[str]:
    """What schemathesis has to say, once each: the operation, the check, and how to ask again."""
    settings = SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "continue-on-failure": True,
            "generation": {"deterministic": True, "max-examples": examples, "database": "none"},
            "checks": CHECKS,
            "operations": OPERATIONS,
        }
    )
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=settings)
    said: dict[Any, str] = {}
    cases = 0
    parts = schema.exclude(path_regex=UNLOAD), schema.include(path_regex=UNLOAD)
    for event in itertools.chain.from_iterable(from_schema(part).execute() for part in parts):
        if isinstance(event, events.NonFatalError):
            said[event.label, type(event.value).__name__] = f"{event.label}: {event.value}"
        elif isinstance(event, events.FatalError):
            raise event.exception
        elif isinstance(event, events.ScenarioFinished):
            cases += len(event.recorder.cases)
            for id, nodes in event.recorder.checks.items():
                for node in nodes:
                    if node.status == Status.FAILURE and node.failure_info is not None:
                        case = event.recorder.cases[id].value
                        failure = node.failure_info.failure
                        said.setdefault(
                            (case.operation.label, node.name, failure.title),
                            f"{case.operation.label}: {node.name}: {failure.title}: {failure.message}\n"
                            f"{node.failure_info.code_sample}",
                        )
    assert cases > 10 * examples
    return list(said.values())


def test_every_answer_is_as_the_document_says(app: FastAPI) -> None:
    said = found(app, examples=5)
    assert not said, "\n\n".join(said)


@pytest.mark.slow
def test_every_answer_is_as_the_document_says_whatever_is_asked(app: FastAPI) -> None:
    said = found(app, examples=200)
    assert not said, "\n\n".join(said)
