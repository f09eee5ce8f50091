"""The graphs of one bundle: a batch through the model, and its taps through the programs of its maps."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.bundle import PROOF, TUNED, Manifest, MapSpec
from service.decode.item import Item
from service.job import Job, Outcome, Proof, Wanted
from service.maps import FUSES, AttentionMap, Made
from service.sessions import DeviceTensor, OutOfMemory, Program, Rows, memory_errors

Array = NDArray[Any]
OUTPUT = "logits"
TOKEN_AXES = ("token", "query_token", "key_token")
PROOF_OUTPUTS = ("row_sum_error", "output_error")


class Making(NamedTuple):
    """One map of one row of a batch; its `made` lacks the label until the prediction is known."""

    spec: MapSpec
    made: Made

    @property
    def graph(self) -> str:
        return self.spec.graph + TUNED if self.made.tuned else self.spec.graph

    def settled(self, predicted: int) -> Making:
        """With the label that is meant where none was given."""
        if "target" not in self.spec.inputs or self.made.target is not None:
            return self
        return self._replace(made=replace(self.made, target=predicted))


class Run(NamedTuple):
    """A batch that has gone through the model: its feeds, what was fetched, and logits [B, K]."""

    feeds: Mapping[str, Array]
    found: Mapping[str, DeviceTensor]
    logits: Array

    def rows(self, names: Mapping[str, str], rows: range) -> dict[str, Array | Rows]:
        """Some rows of tensors, each under the name that a program has for it."""
        return {
            name: self.feeds[tensor][rows.start : rows.stop]
            if tensor in self.feeds
            else self.found[tensor].rows(rows.start, rows.stop)
            for name, tensor in names.items()
        }


class Graphs:
    """`run` blocks and may be called from several threads at once."""

    def __init__(self, *, manifest: Manifest, model: Program, programs: dict[str, Program]) -> None:
        self.model = model
        self.programs = programs
        self._family = manifest.family
        self._specs = {spec.name: spec for spec in manifest.maps}
        self._proof = manifest.proof
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
        """The jobs ordered by what they want: a program then gets few rows that nobody asked for."""
        order = sorted(range(len(jobs)), key=lambda index: sorted(jobs[index].wanted.maps))
        batch = [jobs[index] for index in order]
        layer = self._sampled(batch)
        makings = [self._makings(job.wanted) for job in batch]
        feeds = self.stack([job.item for job in batch])
        found = self.model.run(feeds, [OUTPUT, *sorted(self._fetched(makings, layer) - set(feeds))])
        started = time.perf_counter()
        run = Run(feeds, found, found[OUTPUT].numpy())
        maps = self._maps(batch, makings, run)
        proofs = [
            self._prove(row, layer, run) if layer and job.wanted.proof else None
            for row, job in enumerate(batch)
        ]
        seconds = time.perf_counter() - started
        outcomes = [
            Outcome(logits=run.logits[row], maps=maps[row], maps_seconds=seconds, proof=proofs[row])
            for row in range(len(batch))
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

    def _sampled(self, batch: Sequence[Job]) -> str | None:
        """The layer that a batch's attention is proven on, another one each time."""
        if self._proof is None or not any(job.wanted.proof for job in batch):
            return None
        return random.choice(self._proof.layers)  # noqa: S311

    def _fetched(self, makings: Sequence[Sequence[Making]], proven: str | None) -> set[str]:
        """The tensors that the batch's maps and its proof are made of."""
        tensors = {
            tensor for row in makings for spec, made in row for tensor in spec.taps(made.layer).values()
        }
        if self._proof is not None and proven is not None:
            tensors |= set(self._proof.taps(proven).values())
        return tensors

    def _makings(self, wanted: Wanted) -> list[Making]:
        """The maps that are wanted, by name."""
        specs = [self._specs[name] for name in sorted(wanted.maps)]
        return [Making(spec, Made.of(spec, wanted.selection)) for spec in specs]

    def _maps(
        self, batch: Sequence[Job], makings: Sequence[Sequence[Making]], run: Run
    ) -> list[dict[str, AttentionMap]]:
        """The maps of each row, by name. A slice is made of its own row alone."""
        maps: list[dict[str, AttentionMap]] = [{} for _ in batch]
        shared: dict[str, dict[int, list[Making]]] = {}
        for row, job in enumerate(batch):
            predicted = int(run.logits[row].argmax())
            for making in (one.settled(predicted) for one in makings[row]):
                if making.spec.sliced:
                    values = self._slice(making, row, run, job)
                    maps[row][making.spec.name] = _own(making, values, 0, job)
                else:
                    shared.setdefault(making.graph, {}).setdefault(row, []).append(making)
        for graph, by_row in shared.items():
            rows = range(min(by_row), max(by_row) + 1)
            made = [by_row[row][0].made if row in by_row else Made() for row in rows]
            outputs = {
                name: making for some in by_row.values() for making in some for name in making.spec.outputs
            }
            found = self._made(graph, next(iter(outputs.values())).spec, list(outputs), rows, made, run)
            for row, some in by_row.items():
                for making in some:
                    values = [found[name] for name in making.spec.outputs]
                    maps[row][making.spec.name] = _own(making, values, row - rows.start, batch[row])
        return maps

    def _made(
        self, graph: str, spec: MapSpec, outputs: Sequence[str], rows: range, made: Sequence[Made], run: Run
    ) -> dict[str, Array]:
        """What a graph makes of some rows, by the names of the plain graph's outputs."""
        ending = TUNED if graph.endswith(TUNED) else ""
        tensors = run.rows(spec.taps(), rows)
        tensors["target"] = np.array([one.target or 0 for one in made], np.int64)
        tensors["fuse"] = np.array([list(FUSES).index(one.fuse) for one in made], np.int64)
        tensors["discard"] = np.array([one.discard for one in made], np.float32)
        found = self.programs[graph].run(tensors, [name + ending for name in outputs])
        return {name: found[name + ending].numpy() for name in outputs}

    def _slice(self, making: Making, row: int, run: Run, job: Job) -> list[Array]:
        """The queries asked for, of one layer of one row: [1, H, R, ...]."""
        spec, made = making
        taps = spec.taps(made.layer)
        tokens = job.cost if self._family == "text" else run.found[taps["query"]].shape[-2]
        start, stop = made.rows or (0, tokens)
        tensors = run.rows(taps, range(row, row + 1))
        tensors["rows"] = np.arange(start, stop, dtype=np.int64)
        tensors["frame"] = np.array([made.frame or 0], np.int64)
        found = self.programs[spec.graph].run(tensors, spec.outputs)
        return [found[name].numpy() for name in spec.outputs]

    def _prove(self, row: int, layer: str, run: Run) -> Proof:
        assert self._proof is not None
        found = self.programs[PROOF].run(
            run.rows(self._proof.taps(layer), range(row, row + 1)), PROOF_OUTPUTS
        )
        row_sum, output = (float(found[name].numpy()[0]) for name in PROOF_OUTPUTS)
        return Proof(layer=layer, row_sum_error=row_sum, output_error=output)


def _own(making: Making, layers: Sequence[Array], row: int, job: Job) -> AttentionMap:
    """One job's rows of a batch's map, without the padding and in memory of their own."""
    spec, made = making
    keep = tuple(slice(job.cost if axis in TOKEN_AXES else None) for axis in spec.axes)
    own = tuple(np.array(layer[row][keep], dtype=np.float32) for layer in layers)
    return AttentionMap(spec=spec, layers=own, made=made)
