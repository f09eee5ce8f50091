"""Settings of a server: from the command line, else `REGARD_*` variables, else a TOML file, else defaults."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from service.decode.limits import Limits
from service.keys import Key
from service.logs import LogFormat, LogLevel

MIB = 1024**2
DEMO = Path(__file__).parent / "demo"
PREFIX = "REGARD_"
# Where a Service is called regard..., Kubernetes tells every container of it, in our own prefix.
KUBERNETES = re.compile(r"(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
KUBERNETES_PORT = re.compile(r"(tcp|udp|sctp)://")

Origin = Annotated[str, StringConstraints(pattern=r"^https?://[^/*\s]+$")]


class Settings(BaseSettings):
    """Everything that can be set; the defaults serve the built-in models on this machine alone.

    Raises SettingsError where the file cannot be read, or the file or a variable names no setting, and
    ValidationError for a value.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    config: Path | None = Field(None, description="Settings file (TOML), one key for each row of this table.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    models: Path = Field(DEMO, description="Model repository: NAME/VERSION/ folders.")
    device: str = Field("cpu", pattern=r"^(cpu|cuda:\d+)$", description="Where models run: cpu or cuda:N.")
    slots: int = Field(
        0, ge=0, le=256, description="Concurrent runs; 0 is one for each core on a CPU and two on a GPU."
    )
    gpu_memory_mib: int = Field(0, ge=0, description="Limit of the GPU memory arena in MiB; 0 is no limit.")
    batch_tokens: int = Field(
        0,
        ge=0,
        description="Padded tokens in one batch of texts; 0 is 128 on a CPU, where more gains nothing, and "
        "16384 on a GPU.",
    )
    batch_pixels: int = Field(
        0,
        ge=0,
        description="Pixels in one batch of pictures or clips; 0 is 131072 on a CPU and 3211264 on a GPU.",
    )
    batch_tap_bytes: int = Field(
        256 * MIB, ge=1, description="Queries, keys and gates that one batch keeps for the maps asked of it."
    )
    max_requests: int = Field(
        256,
        ge=1,
        description="Requests under way; one model's may be at most as many as there is still room.",
    )
    max_request_bytes: int = Field(
        256 * MIB, ge=1, description="Bodies of the requests under way, shared in the same way."
    )
    queue_batches: int = Field(
        64, ge=1, description="Full batches of decoded input that may wait for each model."
    )
    timeout_seconds: float = Field(
        60, gt=0, description="Longest time until an answer; a request may ask for less with `timeout`."
    )
    decode_threads: int = Field(
        2, ge=1, le=64, description="Threads that decode, for each of texts, pictures and clips, and draw."
    )
    max_body_bytes: int = Field(32 * MIB, ge=1, validate_default=True, description="Largest request body.")
    max_json_bytes: int = Field(
        4 * MIB,
        ge=1,
        description="Largest JSON; media and binary tensors may be as large as a body.",
    )
    drain_seconds: float = Field(
        0, ge=0, description="After SIGTERM, how long everything is still served while `/readyz` says 503."
    )
    grace_seconds: float = Field(
        30, gt=0, description="After that, how long accepted requests are answered before the process ends."
    )
    reload_seconds: float = Field(
        0, ge=0, description="How often the model repository is looked through for changes; 0 is never."
    )
    max_items: int = Field(32, ge=1, description="Most inputs in one request.")
    max_characters: int = Field(100_000, ge=1, description="Longest text.")
    max_pixels: int = Field(50_000_000, ge=1, description="Largest picture or clip frame, width x height.")
    max_clip_seconds: float = Field(120, gt=0, description="Longest clip.")
    max_clip_frames: int = Field(10_000, ge=1, description="Most frames in a clip.")
    max_decoded_frames: int = Field(2_000, ge=1, description="Most frames decoded to reach those sampled.")
    decode_bytes: int = Field(1024 * MIB, ge=1, description="Memory that decoding may take at one time.")
    decode_seconds: float = Field(20, gt=0, description="Longest time to decode one picture or clip.")
    store_bytes: int = Field(
        512 * MIB, ge=1, description="Memory for predictions that are kept for their maps."
    )
    store_seconds: float = Field(900, gt=0, description="How long a prediction is kept.")
    api_keys: tuple[Key, ...] = Field(
        (), description="Clients: `name`, `sha256` of the key and `scopes`; without any, everybody may ask."
    )
    cors_origins: tuple[Origin, ...] = Field(
        (), description="Origins whose pages may ask, such as `https://example.org`."
    )
    log_format: LogFormat = Field("auto", description="text, json, or auto: text on a terminal, else json.")
    log_level: LogLevel = Field("info", description="debug, info, warning or error.")
    otlp_endpoint: str | None = Field(
        None,
        pattern=r"^https?://",
        description="Collector of traces (OTLP over HTTP), such as `http://127.0.0.1:4318`.",
    )

    @field_validator("api_keys")
    @classmethod
    def _each_its_own(cls, keys: tuple[Key, ...]) -> tuple[Key, ...]:
        """Who asks is told from the key, and what they may read from the name."""
        for what, values in (("name", [key.name for key in keys]), ("key", [key.digest for key in keys])):
            if len(set(values)) < len(values):
                raise ValueError(f"two clients have the same {what}")
        return keys

    @field_validator("max_body_bytes")
    @classmethod
    def _room_for_the_largest(cls, largest: int, info: ValidationInfo) -> int:
        if largest > info.data.get("max_request_bytes", largest):
            raise ValueError("more than max_request_bytes: there would never be room for it")
        return largest

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        environment = _Environment(settings_cls)
        path = init_settings().get("config") or environment().get("config")
        return (init_settings, environment, *([_File(settings_cls, Path(path))] if path else []))

    @property
    def concurrent_runs(self) -> int:
        """The slots of the device; of the cores, those this process may use."""
        return self.slots or (len(os.sched_getaffinity(0)) if self.device == "cpu" else 2)

    @property
    def tokens_of_a_batch(self) -> int:
        return self.batch_tokens or (128 if self.device == "cpu" else 16_384)

    @property
    def pixels_of_a_batch(self) -> int:
        return self.batch_pixels or (131_072 if self.device == "cpu" else 3_211_264)

    def limits(self) -> Limits:
        """What decoders enforce."""
        return Limits(
            max_characters=self.max_characters,
            max_pixels=self.max_pixels,
            max_clip_seconds=self.max_clip_seconds,
            max_clip_frames=self.max_clip_frames,
            max_decoded_frames=self.max_decoded_frames,
            decode_bytes=self.decode_bytes,
            decode_seconds=self.decode_seconds,
        )


class _Environment(EnvSettingsSource):
    """Variables; one that names no setting is an error, but not what Kubernetes adds by itself."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        given = {name: value for name, value in self.env_vars.items() if name.startswith(PREFIX.lower())}
        if KUBERNETES_PORT.match(given.get(f"{PREFIX}PORT".lower()) or ""):
            del given[f"{PREFIX}PORT".lower()]
        self.env_vars = given
        for name, value in given.items():
            setting = name.removeprefix(PREFIX.lower())
            injected = KUBERNETES.fullmatch(setting.upper()) or KUBERNETES_PORT.match(value or "")
            if setting not in settings_cls.model_fields and not injected:
                raise SettingsError(_unknown(settings_cls, setting, name.upper(), PREFIX))


class _File(TomlConfigSettingsSource):
    """A TOML file; a key that names no setting is an error."""

    def __init__(self, settings_cls: type[BaseSettings], path: Path) -> None:
        try:
            super().__init__(settings_cls, path.resolve(strict=True))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"the settings file {path} cannot be read: {error}") from None
        for name in self.toml_data:
            if name not in settings_cls.model_fields or name == "config":
                raise SettingsError(f"{path}: {_unknown(settings_cls, name, name)}")


def _unknown(settings_cls: type[BaseSettings], setting: str, written: str, prefix: str = "") -> str:
    near = difflib.get_close_matches(setting, settings_cls.model_fields, n=1)
    hint = f"; did you mean {prefix}{near[0].upper() if prefix else near[0]}?" if near else ""
    return f"{written} is no setting{hint}"


def origins(given: dict[str, Any]) -> dict[str, str]:
    """Where each setting comes from, if these are given on the command line; those left out are defaults.

    Raises SettingsError.
    """
    sources = Settings.settings_customise_sources(
        Settings,
        InitSettingsSource(Settings, given),
        *(EnvSettingsSource(Settings) for _ in range(3)),  # made anew, and not used
    )
    found: dict[str, str] = {}
    for source, word in zip(sources, ("command line", "environment", "file"), strict=False):
        for name in source():
            found.setdefault(name, word)
    return found
