"""A gate that refuses a model heavier than it may be: `gates = ["improvement", "./examples/size_gate.py"]`."""

from dataclasses import dataclass

from instar.contracts.evidence import Decision, Reason


@dataclass(frozen=True)
class SizeGate:
    most_bytes: int
    name = "size"

    def judge(self, evidence):
        if evidence.footprint is None:  # nothing was measured: fail closed
            return Decision((Reason(self.name, False, "the model was not weighed"),))
        size = evidence.footprint.artefact_bytes
        text = f"{size} bytes, {self.most_bytes} are allowed"
        return Decision((Reason(self.name, size <= self.most_bytes, text, {"bytes": size}),))


def create(options):
    return SizeGate(int(options.get("most_bytes", 2**20)))
