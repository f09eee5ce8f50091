"""schemathesis against the OpenAPI document: what is asked and what is answered is as it says."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events, from_schema

from service.app import create_app
from service.settings import DEMO, Settings

CHECKS = {
    # Whether a model takes what the document allows (a text for a model of pictures, a tensor of another
    # type) is the model's to say, not the document's; so is whether bytes are a picture.
    "positive_data_acceptance": {"enabled": False},
}
OPERATIONS: list[dict[str, Any]] = [
    # That a model is not ready is an answer here, and its status is the protocol's.
    {
        "include-path-regex": "ready",
        "checks": {"not_a_server_error": {"expected-statuses": ["2xx", "4xx", 503]}},
    },
    # Who asks for an answer within no time is told that there is none.
    {
        "include-path-regex": "(predict|infer)$",
        "checks": {"not_a_server_error": {"expected-statuses": ["2xx", "4xx", 504]}},
    },
]
UNLOAD = "/unload$"  # asked of a server of its own: there is little to ask afterwards


def found(examples: int, *, unload: bool) -> list[str]:
    """What schemathesis has to say, once each: the operation, the check, and how to ask again."""
    settings = SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "continue-on-failure": True,
            "generation": {"deterministic": True, "max-examples": examples, "database": "none"},
            "checks": CHECKS,
            "operations": [
                *OPERATIONS,
                {f"{'exclude' if unload else 'include'}-path-regex": UNLOAD, "enabled": False},
            ],
        }
    )
    app = create_app(Settings(models=DEMO, slots=2))  # which schemathesis starts, and ends with its run
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=settings)
    said: dict[Any, str] = {}
    cases, asked = 0, set[bool]()
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError):
            said[event.label, type(event.value).__name__] = f"{event.label}: {event.value}"
        elif isinstance(event, events.FatalError):
            raise event.exception
        elif isinstance(event, events.ScenarioFinished):
            cases += len(event.recorder.cases)
            asked |= {case.value.operation.path.endswith("/unload") for case in event.recorder.cases.values()}
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
    assert cases > examples
    assert asked == {unload}
    return list(said.values())


@pytest.mark.parametrize("unload", [False, True])
def test_every_answer_is_as_the_document_says(unload: bool) -> None:
    said = found(5, unload=unload)
    assert not said, "\n\n".join(said)


@pytest.mark.slow
@pytest.mark.parametrize("unload", [False, True])
def test_every_answer_is_as_the_document_says_whatever_is_asked(unload: bool) -> None:
    said = found(50, unload=unload)
    assert not said, "\n\n".join(said)
