"""What the parameters of a request mean: the protocol's own, and ours about maps."""

from __future__ import annotations

from collections.abc import Mapping

from service.choices import MapOptions, PredictOptions
from service.errors import InvalidInput, UnknownOption
from service.options import parse_options
from service.v2.framing import Scalar

MICROSECONDS = 1_000_000
MAP_OPTIONS = (
    *("maps", "layers", "heads", "target", "token", "rows", "frame", "discard", "mass", "top"),
    "verify",
)
ELSEWHERE = (PredictOptions.model_fields.keys() | MapOptions.model_fields.keys()) - {*MAP_OPTIONS, "timeout"}
UNSUPPORTED = ("sequence_id", "sequence_start", "sequence_end", "priority")  # but for what means none


def timeout(parameters: Mapping[str, Scalar]) -> float | None:
    """Seconds, of what is given in microseconds; None where it is 0 or left out. Raises InvalidInput."""
    given = parameters.get("timeout", 0)
    if type(given) is not int or not 0 <= given < 2**64:
        raise InvalidInput("parameters.timeout: a whole number of microseconds", field="timeout", limit=2**64)
    return given / MICROSECONDS or None


def check_supported(parameters: Mapping[str, Scalar]) -> None:
    """Raise InvalidInput for sequences and priorities, which there are none of, and options of /v1 alone.

    What nobody here knows is left to other servers, as the protocol has it.
    """
    for name in UNSUPPORTED:
        if parameters.get(name, 0) not in (0, ""):
            raise InvalidInput(f"parameters.{name}: no model here has sequences or priorities", field=name)
    for name in parameters:
        if name in ELSEWHERE:
            have = ", ".join(MAP_OPTIONS)
            raise UnknownOption(f"parameters.{name}: not under /v2, which has {have}", field=name, limit=have)


def map_options(parameters: Mapping[str, Scalar]) -> PredictOptions:
    """MAP_OPTIONS as under /v1; raises UnknownOption and InvalidInput.

    Those that change which tokens a map is of are not among them: `tokens` is one output for all maps.
    """
    return parse_options(
        PredictOptions, {name: parameters[name] for name in MAP_OPTIONS if name in parameters}
    )
