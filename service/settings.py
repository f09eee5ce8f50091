"""Settings of a server, from `REGARD_*` environment variables or keyword arguments."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.decode.limits import Limits

MIB = 1024**2
DEMO = Path(__file__).parent / "demo"


class Settings(BaseSettings):
    """Everything that can be set; the defaults serve the built-in models on this machine alone."""

    model_config = SettingsConfigDict(env_prefix="REGARD_", frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    models: Path = Field(DEMO, description="Model repository: NAME/VERSION/ folders.")
    device: str = Field("cpu", pattern=r"^(cpu|cuda:\d+)$", description="Where models run: cpu or cuda:N.")
    slots: int = Field(
        0, ge=0, le=256, description="Concurrent runs; 0 is one for each core on a CPU and two on a GPU."
    )
    gpu_memory_mib: int = Field(0, ge=0, description="Limit of the GPU memory arena in MiB; 0 is no limit.")
    batch_tokens: int = Field(512, ge=1, description="Padded tokens in one batch of texts.")
    batch_pixels: int = Field(602_112, ge=1, description="Pixels in one batch of pictures or clips.")
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
        32, ge=1, description="Full batches of decoded input that may wait for each model."
    )
    timeout_seconds: float = Field(
        60, gt=0, description="Longest time until an answer; a request may ask for less with `timeout`."
    )
    decode_threads: int = Field(
        2, ge=1, le=64, description="Threads that decode, for each of texts, pictures and clips, and draw."
    )
    max_body_bytes: int = Field(32 * MIB, ge=1, description="Largest request body.")
    grace_seconds: int = Field(30, ge=0, description="How long accepted requests are answered after SIGTERM.")
    reload_seconds: float = Field(
        0, ge=0, description="How often the model repository is looked through for changes; 0 is never."
    )
    max_items: int = Field(32, ge=1, description="Most inputs in one request.")
    max_characters: int = Field(100_000, ge=1, description="Longest text.")
    max_pixels: int = Field(50_000_000, ge=1, description="Largest picture or clip frame, width x height.")
    max_clip_seconds: float = Field(120, gt=0, description="Longest clip.")
    max_clip_frames: int = Field(10_000, ge=1, description="Most frames in a clip.")
    max_decoded_frames: int = Field(2_000, ge=1, description="Most frames decoded to reach those sampled.")
    decode_seconds: float = Field(20, gt=0, description="Longest time to decode one clip.")
    store_bytes: int = Field(
        512 * MIB, ge=1, description="Memory for predictions that are kept for their maps."
    )
    store_seconds: float = Field(900, gt=0, description="How long a prediction is kept.")

    @property
    def concurrent_runs(self) -> int:
        """The slots of the device; of the cores, those this process may use."""
        return self.slots or (len(os.sched_getaffinity(0)) if self.device == "cpu" else 2)

    def limits(self) -> Limits:
        """What decoders enforce."""
        return Limits(
            max_characters=self.max_characters,
            max_pixels=self.max_pixels,
            max_clip_seconds=self.max_clip_seconds,
            max_clip_frames=self.max_clip_frames,
            max_decoded_frames=self.max_decoded_frames,
            decode_seconds=self.decode_seconds,
        )
