"""Settings come from arguments, REGARD_* variables and a file, and a bad one is said by name."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsError
from typer.testing import CliRunner, Result

from service.__main__ import app
from service.settings import DEMO, Settings, origins


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


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A settings file that is in force."""
    path = tmp_path / "regard.toml"
    path.write_text("port = 9000\nstore_seconds = 1.5\n")
    monkeypatch.setenv("REGARD_CONFIG", str(path))
    return path


def test_a_file_is_read_and_a_variable_and_an_argument_win_over_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (Settings().port, Settings().store_seconds, Settings().config) == (9000, 1.5, file)
    monkeypatch.setenv("REGARD_PORT", "9001")
    assert Settings().port == 9001
    assert Settings(port=9002).port == 9002
    assert origins({"port": 9002, "config": file}) == {
        "port": "command line",
        "config": "command line",
        "store_seconds": "file",
    }
    assert origins({}) == {"port": "environment", "config": "environment", "store_seconds": "file"}


def test_a_file_may_be_named_as_an_argument(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text('device = "cuda:3"')
    assert (Settings(config=other).device, Settings(config=other).port) == ("cuda:3", 8000)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("max_pixel = 1", "max_pixel is no setting; did you mean max_pixels?"),
        ("zebra = 1", "zebra is no setting"),
        ('config = "other.toml"', "config is no setting"),
        ("port = ", "cannot be read"),
        (b"port = 1 # \xff", "cannot be read"),
    ],
)
def test_a_file_that_says_nothing_we_know_is_refused(file: Path, content: str | bytes, words: str) -> None:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SettingsError, match=re.escape(words)):
        Settings()


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        Settings(config=tmp_path / "nothing.toml")


def test_a_variable_that_names_no_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGARD_MODLES", "x")
    with pytest.raises(SettingsError, match="REGARD_MODLES is no setting; did you mean REGARD_MODELS"):
        Settings()


def test_what_kubernetes_says_of_a_service_called_regard_is_no_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The names are those of its documentation: accessing Services through environment variables."""
    for name, value in {
        "REGARD_SERVICE_HOST": "10.0.0.11",
        "REGARD_SERVICE_PORT": "8000",
        "REGARD_SERVICE_PORT_HTTP": "8000",
        "REGARD_PORT": "tcp://10.0.0.11:8000",
        "REGARD_PORT_8000_TCP": "tcp://10.0.0.11:8000",
        "REGARD_PORT_8000_TCP_PROTO": "tcp",
        "REGARD_PORT_8000_TCP_PORT": "8000",
        "REGARD_PORT_8000_TCP_ADDR": "10.0.0.11",
        "REGARD_GPU_SERVICE_HOST": "10.0.0.12",
        "REGARD_GPU_PORT": "tcp://10.0.0.12:8000",
        "REGARD_GPU_PORT_8000_TCP_ADDR": "10.0.0.12",
    }.items():
        monkeypatch.setenv(name, value)
    assert Settings().port == 8000
    assert origins({}) == {}


HASH = "0123456789abcdef" * 4


def test_keys_are_read_from_a_file_and_from_a_variable(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(f'[[api_keys]]\nname = "a"\nsha256 = "{HASH}"\nscopes = ["admin"]\n')
    (from_file,) = Settings().api_keys
    monkeypatch.setenv("REGARD_API_KEYS", json.dumps([{"name": "b", "sha256": HASH}]))
    (from_variable,) = Settings().api_keys
    assert (from_file.name, from_file.scopes) == ("a", ("admin",))
    assert (from_variable.name, from_variable.scopes) == ("b", ("predict",))


@pytest.mark.parametrize(
    "keys",
    [
        [{"name": "a", "sha256": HASH}, {"name": "a", "sha256": HASH[::-1]}],
        [{"name": "a", "sha256": HASH}, {"name": "b", "sha256": HASH}],
        [{"name": "a", "sha256": HASH[1:]}],
        [{"name": "a", "sha256": HASH.upper()}],
        [{"name": "a\n", "sha256": HASH}],
        [{"name": "", "sha256": HASH}],
        [{"name": "a", "sha256": HASH, "scopes": []}],
        [{"name": "a", "sha256": HASH, "scopes": ["root"]}],
        [{"name": "a", "key": HASH}],
    ],
)
def test_keys_that_cannot_be_told_apart_or_used_are_refused(keys: list[dict[str, Any]]) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(api_keys=keys)
    assert HASH[1:] not in str(caught.value)


@pytest.mark.parametrize("origin", ["*", "https://*", "example.org", "https://example.org/", "null"])
def test_an_origin_that_is_none_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError, match="cors_origins"):
        Settings(cors_origins=[origin])


README = (Path(__file__).parents[2] / "README.md").read_text()


def described(name: str) -> str:
    """A setting's row, from its default and its description."""
    field = Settings.model_fields[name]
    default = field.default
    shown = "the built-in models" if default == DEMO else "none" if default in (None, ()) else f"`{default}`"
    return f"| `{name}` | {shown} | {field.description} |"


def test_the_table_of_the_readme_has_every_setting_as_it_is() -> None:
    table = "\n".join(
        ["| setting | default | |", "| --- | --- | --- |", *map(described, Settings.model_fields)]
    )
    assert table in README, f"the README's table should be:\n\n{table}"


def regard(*arguments: str | Path, **variables: str) -> Result:
    """A command, in this process."""
    return CliRunner().invoke(app, [*map(str, arguments)], env=variables | {"COLUMNS": "300"})


def test_config_prints_what_is_in_force_and_where_it_comes_from(file: Path) -> None:
    file.write_text(f'port = 9000\n[[api_keys]]\nname = "a"\nsha256 = "{HASH}"\n')
    done = regard("config", "--json", "--host", "::1", REGARD_SLOTS="3")
    assert (done.exit_code, done.stderr) == (0, "")
    rows = json.loads(done.stdout)
    assert set(rows) == set(Settings.model_fields)
    assert rows["host"] == {"value": "::1", "from": "command line"}
    assert rows["slots"] == {"value": 3, "from": "environment"}
    assert rows["port"] == {"value": 9000, "from": "file"}
    assert rows["device"] == {"value": "cpu", "from": "default"}
    assert rows["api_keys"]["value"][0]["name"] == "a"
    assert HASH not in done.stdout
    shown = regard("config").stdout
    assert re.search(r"port +9000 +file", shown)
    assert HASH not in shown


@pytest.mark.parametrize("command", ["serve", "config", "predict"])
def test_a_wrong_setting_ends_a_command_with_its_name(command: str) -> None:
    arguments = [command, __file__] if command == "predict" else [command]
    done = regard(*arguments, REGARD_PORT="high")
    assert done.exit_code == 2
    assert "port: Input should be a valid integer" in done.stderr
    assert "(environment)" in done.stderr
    done = regard(*arguments, REGARD_SLOT="1")
    assert done.exit_code == 2
    assert "did you mean REGARD_SLOTS?" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_key_that_is_made_opens_the_settings_that_were_printed_with_it(tmp_path: Path) -> None:
    done = regard("key", "ci", "--scope", "predict", "--scope", "admin")
    secret, _, fragment = done.stdout.partition("\n\nFor the settings file:\n\n")
    path = tmp_path / "regard.toml"
    path.write_text(fragment)
    (key,) = Settings(config=path).api_keys
    assert (key.name, key.scopes) == ("ci", ("predict", "admin"))
    assert hashlib.sha256(secret.encode()).digest() == key.digest
    assert len(secret) >= 43
    assert regard("key", "ci").stdout != done.stdout
    assert regard("key", "a b").exit_code == 2
