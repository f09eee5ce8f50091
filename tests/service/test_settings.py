"""Settings come from REGARD_* variables and arguments, and a bad one is said by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.settings import DEMO, Settings


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("REGARD_")]:
        monkeypatch.delenv(name)


def test_defaults_serve_the_built_in_models_on_this_machine_alone() -> None:
    settings = Settings()
    assert (settings.host, settings.port, settings.models, settings.device) == (
        "127.0.0.1",
        8000,
        DEMO,
        "cpu",
    )


def test_a_cpu_has_a_slot_for_each_core_it_may_use_and_a_gpu_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 3, 5})
    assert Settings().concurrent_runs == 3
    assert Settings(device="cuda:0").concurrent_runs == 2
    assert Settings(slots=7).concurrent_runs == 7


def test_variables_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REGARD_MODELS", str(tmp_path))
    monkeypatch.setenv("REGARD_DEVICE", "cuda:1")
    monkeypatch.setenv("REGARD_STORE_SECONDS", "1.5")
    settings = Settings()
    assert (settings.models, settings.device, settings.store_seconds) == (tmp_path, "cuda:1", 1.5)


def test_an_argument_wins_over_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGARD_PORT", "9000")
    assert Settings().port == 9000
    assert Settings(port=9001).port == 9001


def test_nothing_is_read_before_settings_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Settings()
    monkeypatch.setenv("REGARD_PORT", "9000")
    assert before.port == 8000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "high"),
        ("port", "65536"),
        ("device", "gpu"),
        ("device", "cuda"),
        ("device", "cuda:x"),
        ("slots", "-1"),
        ("max_pixels", "-1"),
        ("max_clip_seconds", "nan"),
        ("store_bytes", "1 GB"),
        ("store_seconds", "0"),
    ],
)
def test_a_bad_value_is_said_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"REGARD_{name.upper()}", value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert [error["loc"] for error in caught.value.errors()] == [(name,)]


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="max_pixel"):
        Settings(max_pixel=1)  # type: ignore[call-arg]


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_characters", 7),
        ("max_pixels", 7),
        ("max_clip_seconds", 7.5),
        ("max_clip_frames", 7),
        ("max_decoded_frames", 7),
        ("decode_seconds", 7.5),
    ],
)
def test_limits_reach_the_decoders(name: str, value: Any) -> None:
    assert getattr(Settings(**{name: value}).limits(), name) == value
