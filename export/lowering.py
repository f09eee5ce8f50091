"""A bundle of lower precision: derived from a verified one, measured against it, refused if it loses much."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import nn

from export.errors import ExportError
from export.quantize import Calibration, Feeds, Lower
from export.shapes import Preprocessing, Shape, example_inputs
from service.bundle import Agreement, BundleError, TextInput

CALIBRATED = 100  # inputs whose ranges static int8 takes
MEASURED = 500  # inputs of a data set that are compared
GENERATED = 8  # inputs that are compared where there is no data set
FEWEST_SAME_LABELS = 0.99
# Where 99.4 % and more of the labels stay, int8 is off by 0.004 to 0.016; networks of random weights, whose
# attention is sharper than any trained one's, by 0.03 to 0.05. One range that is wrong costs far more.
LARGEST_LOGIT_ERROR = 0.1
SEED = 1000  # far from the seeds that verification uses


class Tools(Protocol):
    """What the service can do and export may not import: decode inputs, and compare two bundles."""

    def read_inputs(self, folder: Path, data: Path, limit: int) -> Iterator[Feeds]:
        """The first inputs of a data set as tensors of the bundle `folder`; raises ValueError."""

    def compare(self, folder: Path, against: Path, inputs: Iterable[Feeds], *, data: str) -> Agreement:
        """The agreement of two bundles on these inputs; raises BundleError."""


@dataclass(frozen=True, kw_only=True)
class Lowering:
    """What was asked for: a precision, inputs to calibrate and measure it on, whether any loss is taken."""

    precision: Lower
    tools: Tools
    data: Path | None = None
    accept_loss: bool = False

    def calibration(self, folder: Path) -> Calibration | None:
        """What gives inputs to calibrate on, if there are any.

        They are among those measured: only their ranges are used, nothing is fitted to them.
        """
        return None if self.data is None else lambda: self._inputs(folder, CALIBRATED)

    def measure(self, folder: Path, against: Path, examples: Iterator[Feeds]) -> Agreement:
        """The agreement of the bundle `folder` with the fp32 one, on the data set or else on `examples`.

        Raises ExportError where it is too small and that was not accepted, and where a value is not finite.
        """
        inputs = self._inputs(against, MEASURED) if self.data else islice(examples, GENERATED)
        said = self.data.name if self.data else "generated at random"
        try:
            agreement = self.tools.compare(folder, against, inputs, data=said)
        except BundleError as error:
            raise ExportError(str(error)) from error
        if not self.accept_loss:
            self._judge(agreement)
        return agreement

    def _inputs(self, folder: Path, limit: int) -> Iterator[Feeds]:
        assert self.data is not None
        try:
            yield from self.tools.read_inputs(folder, self.data, limit)
        except ValueError as error:
            raise ExportError(str(error)) from error

    def _judge(self, found: Agreement) -> None:
        """Labels count where the inputs are real and there are labels, else the numbers themselves."""
        if self.data is not None and found.labels is not None:
            lost = found.labels < FEWEST_SAME_LABELS
            figure = f"{found.labels:.1%} of {found.inputs} inputs keep their label, {FEWEST_SAME_LABELS:.0%}"
        else:
            lost = found.logit_error > LARGEST_LOGIT_ERROR
            figure = f"the mean relative logit error is {found.logit_error:.3f}, {LARGEST_LOGIT_ERROR}"
        if lost:
            raise ExportError(f"{self.precision}: {figure} is the limit; --accept-loss takes it")


def examples(model: nn.Module, spec: Preprocessing) -> Iterator[Feeds]:
    """Random inputs, one by one and without end; texts of every length up to 160 tokens."""
    rng = np.random.default_rng(SEED)
    longest = min(spec.max_tokens, 160) if isinstance(spec, TextInput) else 0
    seed = SEED
    while True:
        lengths = (int(rng.integers(3, longest + 1)),) if longest else ()
        seed += 1
        tensors = example_inputs(model, spec, Shape(batch=1, lengths=lengths), seed=seed)
        yield {name: tensor.numpy() for name, tensor in tensors.items()}
