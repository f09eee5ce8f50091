"""The graphs of one bundle: a batch through the model, and its taps through the programs of its maps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.bundle import Manifest, MapSpec
from service.decode.item import Item
from service.job import Job, Outcome
from service.maps import AttentionMap
from service.sessions import OutOfMemory, Program, Rows, memory_errors

Array = NDArray[Any]
OUTPUT = "logits"
TOKEN_AXES = ("token", "query_token", "key_token")


class Graphs:
    """`run` blocks and may be called from several threads at once."""

    def __init__(self, *, manifest: Manifest, model: Program, programs: dict[str, Program]) -> None:
        self.model = model
        self.programs = programs
        self._family = manifest.family
        self._specs = {spec.name: spec for spec in manifest.maps}
        self._padding = {"input_ids": getattr(manifest.preprocessing, "pad_id", 0)}

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run a batch; raises OutOfMemory, and gives back what it had claimed with the next one."""
        try:
            with memory_errors():
                return self._run(jobs)
        except OutOfMemory:
            for program in (self.model, *self.programs.values()):
                program.crowded = True
            raise

    def _run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """A map's program gets the smallest stretch of rows that holds all who ask for it."""
        order = sorted(range(len(jobs)), key=lambda index: sorted(jobs[index].maps))
        batch = [jobs[index] for index in order]
        feeds = self.stack([job.item for job in batch])
        ranges = {name: _range(batch, name) for name in set().union(*(job.maps for job in batch))}
        taps = {tap for name in ranges for tap in self.programs[name].inputs} - set(feeds)
        found = self.model.run(feeds, [OUTPUT, *sorted(taps)])
        started = time.perf_counter()
        maps = {name: self._map(name, rows, feeds, found) for name, rows in ranges.items()}
        seconds = time.perf_counter() - started
        logits = found[OUTPUT].numpy()
        outcomes = [
            Outcome(
                logits=logits[row],
                maps={
                    name: _own(self._specs[name], maps[name], row - ranges[name].start, job)
                    for name in sorted(job.maps)
                },
                maps_seconds=seconds,
            )
            for row, job in enumerate(batch)
        ]
        return [outcome for _, outcome in sorted(zip(order, outcomes, strict=True), key=lambda pair: pair[0])]

    def stack(self, items: Sequence[Item]) -> dict[str, Array]:
        """Tensors [B, ...] of items, right-padded along the first axis where their lengths differ."""
        feeds: dict[str, Array] = {}
        for name in items[0].tensors:
            rows = [item.tensors[name] for item in items]
            longest = max(len(row) for row in rows)
            shape = (len(rows), longest, *rows[0].shape[1:])
            feeds[name] = np.full(shape, self._padding.get(name, 0), dtype=rows[0].dtype)
            for index, row in enumerate(rows):
                feeds[name][index, : len(row)] = row
        if self._family == "text":
            feeds["lengths"] = np.array([item.cost for item in items], dtype=np.int64)
        return feeds

    def _map(self, name: str, rows: range, feeds: dict[str, Array], found: dict[str, Any]) -> list[Array]:
        program, spec = self.programs[name], self._specs[name]
        tensors: dict[str, Array | Rows] = {
            tap: feeds[tap][rows.start : rows.stop]
            if tap in feeds
            else found[tap].rows(rows.start, rows.stop)
            for tap in program.inputs
        }
        results = program.run(tensors, spec.outputs)
        return [results[output].numpy() for output in spec.outputs]


def _own(spec: MapSpec, layers: Sequence[Array], row: int, job: Job) -> AttentionMap:
    """One job's rows of a batch's map, without the padding and in memory of their own."""
    keep = tuple(slice(job.cost if axis in TOKEN_AXES else None) for axis in spec.axes)
    own = tuple(np.array(layer[row][keep], dtype=np.float32) for layer in layers)
    return AttentionMap(spec=spec, layers=own)


def _range(batch: Sequence[Job], name: str) -> range:
    """The smallest stretch of rows that holds every job asking for this map."""
    rows = [row for row, job in enumerate(batch) if name in job.maps]
    return range(rows[0], rows[-1] + 1)
