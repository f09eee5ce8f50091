"""The maps of a model as graphs: which files there are, what they take, what the manifest says of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from export.shapes import Preprocessing
from models.programs import MapProgram, Proof
from models.programs.gradients import GradientMap
from service.bundle import PARAMETERS, PROOF, TUNED, MapSpec, ProofSpec

Tensors = dict[str, Tensor]
TYPES = "token_types"
OUTPUT_ERROR = "output_error"
PROOF_OUTPUTS = ("row_sum_error", OUTPUT_ERROR)


@dataclass(frozen=True, kw_only=True)
class MapGraph:
    """One file under `maps/`: a module that takes `inputs`, each found among tensors under the name that
    `taps` gives it, and gives `outputs`.
    """

    name: str
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    taps: Mapping[str, str]

    def feeds(self, tensors: Mapping[str, Tensor]) -> Tensors:
        """The inputs in order."""
        return {name: tensors[self.taps.get(name, name)] for name in self.inputs}

    def outputs_of(self, names: Collection[str]) -> list[str]:
        """Those outputs that are these maps', tuned or not."""
        return [output for output in self.outputs if output.removesuffix(TUNED) in names]

    def run(self, tensors: Mapping[str, Tensor]) -> Tensors:
        """The outputs in torch."""
        return dict(zip(self.outputs, self.module(*self.feeds(tensors).values()), strict=True))


class _Together(nn.Module):
    """Maps of one pass forward and back, all of them made by one program.

    Each by its own would go back a second time: what two programs trace is not merged into one.
    """

    def __init__(self, program: GradientMap) -> None:
        super().__init__()
        self.program = program

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.program.both(*inputs)


def map_programs(model: nn.Module, spec: Preprocessing) -> dict[str, MapProgram]:
    """The maps that a model's taps allow, by name; without inputs that this preprocessing does not make."""
    programs: dict[str, MapProgram] = model.programs()  # type: ignore[operator]
    if not getattr(spec, TYPES, False):
        for program in programs.values():
            program.inputs = tuple(name for name in program.inputs if name != TYPES)
    return programs


def map_outputs(name: str, program: MapProgram) -> tuple[str, ...]:
    """What a map's outputs are called: `NAME.LAYER` each, or the map's own name."""
    layers = () if program.sliced else program.layers
    return tuple(f"{name}.{layer}" for layer in layers) or (name,)


def map_graphs(model: nn.Module, spec: Preprocessing) -> list[MapGraph]:
    """Every file under `maps/`; the graph of a sliced map takes the taps of its first layer here."""
    graphs: dict[str, MapGraph] = {}
    sharing: dict[str, list[tuple[str, MapProgram]]] = {}
    for name, program in map_programs(model, spec).items():
        sharing.setdefault(program.graph or name, []).append((name, program))
    for graph, maps in sharing.items():
        name, program = maps[0]
        outputs = tuple(output for map_ in maps for output in map_outputs(*map_))
        module = _Together(program) if isinstance(program, GradientMap) else program
        taps = map_spec(name, program).taps()
        graphs[graph] = MapGraph(name=graph, module=module, inputs=program.inputs, outputs=outputs, taps=taps)
        if (tuned := program.tuned) is not None:
            graphs[graph + TUNED] = MapGraph(
                name=graph + TUNED,
                module=tuned,
                inputs=tuned.inputs,
                outputs=tuple(output + TUNED for output in outputs),
                taps=taps,
            )
    return [*graphs.values(), *proof_graphs(model)]


def proof_graphs(model: nn.Module) -> list[MapGraph]:
    """What verifies the attention of a model, which has none where it has no such layers; on the first."""
    spec = proof_spec(model)
    if spec is None:
        return []
    proof: Proof = model.proof()  # type: ignore[operator]
    return [
        MapGraph(
            name=PROOF,
            module=proof,
            inputs=proof.inputs,
            outputs=PROOF_OUTPUTS,
            taps=spec.taps(spec.layers[0]),
        )
    ]


def proof_spec(model: nn.Module) -> ProofSpec | None:
    """What the manifest says of the proof."""
    if not hasattr(model, "proof"):
        return None
    proof: Proof = model.proof()  # type: ignore[operator]
    return ProofSpec(layers=tuple(model.layers), inputs=proof.inputs)  # type: ignore[arg-type]


def map_spec(name: str, program: MapProgram) -> MapSpec:
    """What the manifest says of a map."""
    return MapSpec(
        name=name,
        kind=program.kind,
        description=program.description,
        axes=program.axes,
        layers=program.layers,
        default_layer=program.default,
        heads=getattr(program, "heads", None) if "head" in program.axes else None,
        graph=program.graph or name,
        inputs=program.inputs,
        outputs=map_outputs(name, program),
        sliced=program.sliced,
        tunable=program.tuned is not None,
        tokens_before=program.tokens_before,
        fixed_range=program.fixed_range,
    )


def parameters(batch: int, labels: int) -> Tensors:
    """Values of PARAMETERS to trace and verify with: for each of the batch another label and way to fuse.

    Nothing is discarded: of two weights that differ by less than rounding either may be, so a graph that is
    right could seem wrong.
    """
    each = torch.arange(batch)
    values = {
        "target": (each * 7 + 1) % labels,
        "rows": torch.tensor([1, 0, 2]),
        "frame": torch.tensor([1]),
        "fuse": (each + 1) % 3,
        "discard": torch.zeros(batch),
    }
    assert tuple(values) == PARAMETERS
    return values


PARAMETER_AXES: dict[str, tuple[str | int, ...]] = {
    "target": ("batch",),
    "rows": ("row",),
    "frame": (1,),
    "fuse": ("batch",),
    "discard": ("batch",),
}
