"""The ways in. An input makes calls of `Intake.take` from what a client says, and tells it what became of them."""

from sidecar.inputs.counts import InputCounts

__all__ = ["InputCounts"]
