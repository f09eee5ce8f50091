"""The session alone, as fast as it goes without a server: what HTTP is measured against."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Texts a second of all threads together, and what a text costs in CPU seconds."""

    per_second: float
    cpu_seconds: float


class BareLoop:
    """One session of one thread per run; as many threads as slots, each running one text after another."""

    def __init__(self, bundle: Path, *, slots: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            bundle / "model.onnx", options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
        self._slots = slots

    def feeds(self, texts: Sequence[str]) -> list[dict[str, np.ndarray]]:
        """What the session takes for each text: ids and lengths, ready."""
        ids = [np.array([self._tokenizer.encode(text).ids], np.int64) for text in texts]
        return [{"input_ids": row, "lengths": np.array([row.shape[1]])} for row in ids]

    def run(self, feeds: Sequence[dict[str, np.ndarray]], seconds: float) -> Pace:
        """Every thread takes its next text until the time is over."""
        paces: list[Pace] = []

        def work(slot: int) -> None:
            texts, index = 0, slot
            started, cpu = time.perf_counter(), time.thread_time()
            while time.perf_counter() < started + seconds:
                self._session.run(["logits"], feeds[index % len(feeds)])
                index += self._slots
                texts += 1
            elapsed, spent = time.perf_counter() - started, time.thread_time() - cpu
            paces.append(Pace(per_second=texts / elapsed, cpu_seconds=spent / texts))

        threads = [threading.Thread(target=work, args=(slot,)) for slot in range(self._slots)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return Pace(
            per_second=sum(pace.per_second for pace in paces),
            cpu_seconds=sum(pace.cpu_seconds for pace in paces) / len(paces),
        )
