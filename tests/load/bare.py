"""The session alone, as fast as it goes without a server: what HTTP is measured against."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer


class BareLoop:
    """One session of one thread per run, and as many threads that run one text after another as there are slots."""

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
        made = []
        for text in texts:
            ids = np.array([self._tokenizer.encode(text).ids], np.int64)
            feed = {"input_ids": ids, "token_types": np.zeros_like(ids)}
            feed["lengths"] = np.array([ids.shape[1]], np.int64)
            names = {node.name for node in self._session.get_inputs()}
            made.append({name: feed[name] for name in names})
        return made

    def per_second(self, feeds: Sequence[dict[str, np.ndarray]], seconds: float) -> float:
        """Texts a second: every thread takes the next one until the time is over."""
        rates = [0.0] * self._slots
        started = time.perf_counter()

        def work(slot: int) -> None:
            texts, index, now = 0, slot, started
            while now < started + seconds:
                feed = feeds[index % len(feeds)]
                self._session.run(["logits"], feed)
                index += self._slots
                texts += len(feed["input_ids"])
                now = time.perf_counter()
            rates[slot] = texts / (now - started)

        threads = [threading.Thread(target=work, args=(slot,)) for slot in range(self._slots)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(rates)
