"""How a builder is named: `NAME`, or `NAME:ARGUMENT,ARGUMENT`; square brackets hold an argument together.

    panel:incumbent,search:gp,random          three arguments
    panel:[mixed:search:cma,llm],random       two: the first is a specification with two arguments of its own

The first colon ends the name, so that an argument may have colons of its own. This is the only place that knows.
"""

from __future__ import annotations

from instar.contracts.errors import BadInput


def name_of(specification: str) -> str:
    """Return the builder's name in a specification."""
    return specification.partition(":")[0]


def arguments_of(specification: str) -> tuple[str, ...]:
    """Return what follows the first colon, split at the commas outside brackets; empty parts are left out.

    An argument that is one pair of brackets loses them. Raises `BadInput` where brackets do not match.
    """
    parts, depth = [""], 0
    for letter in specification.partition(":")[2]:
        depth += {"[": 1, "]": -1}.get(letter, 0)
        if depth < 0:
            break
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    if depth:
        raise BadInput(
            f"builder '{specification}': its brackets do not match", "Write panel:[mixed:search,random],incumbent."
        )
    return tuple(filter(None, (_bare(part.strip()) for part in parts)))


def _bare(part: str) -> str:
    """Take off the brackets that hold the whole part."""
    if not (part.startswith("[") and part.endswith("]")):
        return part
    depth = 0
    for place, letter in enumerate(part):
        depth += {"[": 1, "]": -1}.get(letter, 0)
        if not depth and place < len(part) - 1:
            return part  # two pairs side by side
    return part[1:-1].strip()
