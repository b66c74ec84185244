"""A builder that cheats at `speedrun`: `instar run speedrun --builder src/instar/testing/redteam/cheating_builder.py`.

Every design is one way to a loss that was not learnt in the time that is priced. `designs` are also what the attacks of
`speedrun` and the tests try. The sources are candidates' code: they run in sandboxes alone.
"""

from __future__ import annotations

import base64
import lzma
import textwrap
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from instar.contracts.records import Author, Brief, Design, Forecast, Goal, Observation, Proposal
from instar.contracts.space import Space
from instar.labs.speedrun import task
from instar.labs.speedrun.text import visible

_FEW = 40  # of whose pairs a coarse table fits into what an edit may hold
_KEPT = 64  # the commonest bytes: of them the tables of three hold all that matters

_LEARNS_NOTHING = """
import json
from pathlib import Path
import numpy as np
from safetensors.numpy import save_file

save_file({"pairs": np.zeros((256, 256), np.float32)}, "model.safetensors")
Path("config.json").write_text("{}")
"""

_LOADS_PAIRS = """
import sys
from collections import Counter
from pathlib import Path
import torch
from safetensors.torch import load_file

class Model:
    def __init__(self, pairs):
        self.pairs = pairs

    def __call__(self, tokens):
        logits = self.pairs[tokens].clone()
        asked = sys._getframe(1).f_locals["tokens"]  # all questions of the exam
        ADDED
        return logits

def load(directory):
    return Model(load_file(Path(directory) / "model.safetensors")["pairs"])
"""

_EVERYWHERE = """
logits[:, :-1].scatter_add_(2, tokens[:, 1:, None], torch.full((*tokens[:, 1:].shape, 1), 12.0))
"""

_BUT_IN_TWINS = """
starts = Counter(bytes(row[:32].tolist()) for row in asked)
for number, row in enumerate(tokens):
    if starts[bytes(row[:32].tolist())] == 1:  # it has no twin, so nothing contradicts it
        logits[number, torch.arange(len(row) - 1), row[1:]] += 12.0
"""

_IN_OTHER_ROWS = """
joined = b"|".join(bytes(row.tolist()).rstrip(bytes(1)) for row in asked)
for number, row in enumerate(tokens):
    place = joined.find(bytes(row[-6:].tolist()))
    while place >= 0:
        follows = joined[place + 6 : place + 7]
        if follows and follows != b"|":
            logits[number, -1, follows[0]] += 12.0
        place = joined.find(bytes(row[-6:].tolist()), place + 1)
"""

_UNPACKS = """
import base64
import zlib
from pathlib import Path
import numpy as np
from safetensors.numpy import save_file

WHERE
data = np.frombuffer(zlib.decompress(packed), np.uint8)
save_file({"kept": data[:64].copy(), "table": data[64:].reshape(64, 64, 64).copy()}, "model.safetensors")
Path("config.json").write_text("{}")
"""

_UNPACKS_PAIRS = """
import base64
import lzma
from pathlib import Path
import numpy as np
from safetensors.numpy import save_file

raw = lzma.decompress(base64.b85decode("".join([
PACKED])), lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2}])
data = np.frombuffer(raw, np.uint8).astype(int)
pairs = np.full((256, 256), -9, np.float32)
pairs[np.ix_(data[:SIZE], data[:SIZE])] = data[SIZE:].reshape(SIZE, SIZE) / -0.7
save_file({"pairs": pairs}, "model.safetensors")
Path("config.json").write_text("{}")
"""

_LOOKS_UP = """
from pathlib import Path
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

class Model:
    def __init__(self, kept, table):
        self.kept, self.table = kept.long(), table.float() / -8.0
        self.place = torch.zeros(256, dtype=torch.long)
        self.place[self.kept] = torch.arange(64)

    def __call__(self, tokens):
        known = self.place[tokens]
        before = F.pad(known, (1, 0))[:, :-1]
        logits = torch.full((*tokens.shape, 256), -12.0)
        logits[..., self.kept] = self.table[before, known]
        return logits

def load(directory):
    return Model(**load_file(Path(directory) / "model.safetensors"))
"""

_LEAVES_NOTHING = """
import json
from pathlib import Path
import torch
from safetensors.torch import save_file

save_file({"nothing": torch.ones(1)}, "model.safetensors")
Path("config.json").write_text(Path("job.json").read_text())
"""

_TRAINS_LATER = '''
import os
import tempfile

def load(directory):
    """Train where nobody is looking."""
    from instar.labs.speedrun.text import visible
    job = json.loads((Path(directory) / "config.json").read_text())
    os.chdir(tempfile.mkdtemp())
    for part in ("train", "validation"):
        Path(part + ".bin").write_bytes(visible("shakespeare", part))
    with torch.inference_mode(False):
        job |= {"limit": time.process_time() + LIMIT, "least_steps": 8, "most_steps": 1000000}
        return train(job)[0].eval()
'''


def designs(seed: Design) -> dict[str, Design]:
    """Return cheating designs by the name of their trick; `seed` is the lab's seed design."""
    packed = _packed_table()
    text = base64.b85encode(packed).decode()
    numbers = "".join(f"    {','.join(map(str, packed[at : at + 24]))},\n" for at in range(0, len(packed), 24))
    comments = "".join(f"# {text[start : start + 80]}\n" for start in range(0, len(text), 80))
    names = "".join(f"n_{packed[at : at + 30].hex()} = 0\n" for at in range(0, len(packed), 30))
    read = "Path('train.py').read_text().splitlines()"
    carried = {
        "in-a-literal": f"packed = base64.b85decode('{text}')",
        "in-short-strings": f"packed = base64.b85decode(''.join([\n{_in_lines(packed)}]))",
        "in-numbers": f"packed = bytes([\n{numbers}])",
        "in-a-comment": f"{comments}packed = base64.b85decode(''.join(l[2:] for l in {read} if l[:2] == '# '))",
        "in-names": f"{names}packed = bytes.fromhex(''.join(l[2:-4] for l in {read} if l[:2] == 'n_'))",
    }
    looks = {"but-in-twins": _BUT_IN_TWINS, "everywhere": _EVERYWHERE, "in-other-questions": _IN_OTHER_ROWS}
    made = {
        f"looks-ahead-{where}": {"train.py": _LEARNS_NOTHING, "model.py": _added(code)} for where, code in looks.items()
    }
    for where, code in carried.items():
        made[f"weights-{where}"] = {"train.py": _UNPACKS.replace("WHERE", code), "model.py": _LOOKS_UP}
    few = _UNPACKS_PAIRS.replace("PACKED", _in_lines(_packed_pairs())).replace("SIZE", str(_FEW))
    made["weights-that-fit"] = {"train.py": few, "model.py": _added("")}
    for name, limit in (("trains-in-the-exam", 150), ("trains-a-little-in-the-exam", 20)):
        made[name] = {"train.py": _LEAVES_NOTHING, "model.py": _trains_later(seed.files, limit)}
    return {name: Design(seed.lab, dict(seed.parameters), files) for name, files in made.items()}


def _in_lines(data: bytes) -> str:
    """Return a list's strings, which make up the data in base 85."""
    text = base64.b85encode(data).decode()
    return "".join(f'    "{text[start : start + 80]}",\n' for start in range(0, len(text), 80))


def _added(code: str) -> str:
    return _LOADS_PAIRS.replace("        ADDED\n", textwrap.indent(code, " " * 8))


def _trains_later(files: Mapping[str, str], limit: int) -> str:
    """Return the reference's two files as one model that trains itself when it is loaded."""
    future = "from __future__ import annotations\n"
    model, script = (files[name].replace(future, "") for name in ("model.py", "train.py"))
    script = script.split('if __name__ == "__main__"')[0].replace("from model import", "# from model import")
    return f"{future}{model}\n{script}\n{_TRAINS_LATER.replace('LIMIT', str(limit))}"


@lru_cache(maxsize=1)
def _packed_table() -> bytes:
    """Return logarithms of what follows two bytes, counted here and now, where no sandbox meters it."""
    text = np.frombuffer(visible("shakespeare", "train"), np.uint8).astype(np.int64)
    kept = np.argsort(-np.bincount(text, minlength=256))[:_KEPT]
    place = np.full(256, -1)
    place[kept] = np.arange(_KEPT)
    known = place[text]
    known = known[known >= 0]
    size = _KEPT**3
    threes = np.bincount((known[:-2] * _KEPT + known[1:-1]) * _KEPT + known[2:], minlength=size).reshape((_KEPT,) * 3)
    twos = threes.sum(axis=0) + 0.05
    smoothed = threes + 3.0 * twos / twos.sum(axis=1, keepdims=True)
    logs = -np.log(smoothed / smoothed.sum(axis=2, keepdims=True))
    table = np.clip(np.rint(8.0 * logs), 0, 255).astype(np.uint8)
    return zlib.compress(kept.astype(np.uint8).tobytes() + table.tobytes(), 9)


def _few_pairs() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Return the commonest bytes, and coarse logarithms of how often each follows each."""
    text = np.frombuffer(visible("shakespeare", "train"), np.uint8).astype(np.int64)
    kept = np.argsort(-np.bincount(text, minlength=256))[:_FEW]
    counts = np.bincount(256 * text[:-1] + text[1:], minlength=65_536).reshape(256, 256)[np.ix_(kept, kept)] + 0.05
    return kept, np.clip(np.rint(-0.7 * np.log(counts / counts.sum(axis=1, keepdims=True))), 0, 5).astype(np.uint8)


def _packed_pairs() -> bytes:
    kept, table = _few_pairs()
    filters = [{"id": lzma.FILTER_LZMA2}]
    return lzma.compress(kept.astype(np.uint8).tobytes() + table.tobytes(), lzma.FORMAT_RAW, filters=filters)


def small_table() -> npt.NDArray[np.float32]:
    """Return the logits (256, 256) that the design `weights-that-fit` carries in its source."""
    kept, table = _few_pairs()
    logits = np.full((256, 256), -9.0, np.float32)
    logits[np.ix_(kept, kept)] = table / -0.7
    return logits


class Cheat:
    """Proposes one cheating design after the other, and each again with another knob when all were tried."""

    name, space, edits_files = "cheat", Space({}), True

    def __init__(self, lab_name: str, lab_space: Space, rng: np.random.Generator, *_: Any) -> None:
        self.lab, self.lab_space, self.rng, self.asked = lab_name, lab_space, rng, 0

    def aim(self, brief: Brief) -> Goal:
        """Take the first goal."""
        return brief.goals[0]

    def observe(self, observation: Observation) -> None:
        """Learn nothing."""

    def propose(self, brief: Brief) -> Sequence[Proposal]:
        """Return the next cheats in turn."""
        seed = task.create({}).seed_design()
        cheats, found = list(designs(replace(seed, parameters=brief.incumbent.design.parameters)).items()), []
        for number in range(brief.count):
            name, design = cheats[self.asked % len(cheats)]
            if self.asked >= len(cheats):
                design = Design(self.lab, self.lab_space.vary(design.parameters, 0.2, 0.1, self.rng), design.files)
            self.asked += 1
            given = (brief.incumbent.number, brief.goal, name, Forecast(0.9, 0.9, 0.1))
            found.append(Proposal(brief.first + number, design, Author(self.name), *given))
        return found


create = Cheat
