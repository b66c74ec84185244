"""Reads a builder's table of options in instar.toml, `[builders.NAME]`, into the pydantic type that describes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, ValidationError

from instar.contracts.errors import BadInput
from instar.contracts.units import seconds, size

T = TypeVar("T")


def read_table(kind: type[T], builder: str, table: Mapping[str, Any]) -> T:
    """Return the options of one builder.

    Args:
        kind: a pydantic model, or a dataclass of pydantic's, that forbids unknown keys.
        builder: its name.
        table: what the person wrote.

    Raises:
        BadInput: naming the first key that is unknown or has a bad value.
    """
    try:
        return kind(**table)
    except ValidationError as error:
        first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = ", ".join(kind.__annotations__)
        raise BadInput(f"[builders.{builder}]: unknown key '{key}'", f"Known: {known}.")
    said = first["msg"].removeprefix("Value error, ")
    raise BadInput(f"[builders.{builder}]: '{key}': {said}", "Give a valid value.")


def _read_by(parse: Callable[[str], float]) -> AfterValidator:
    def check(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(check)


Duration = Annotated[str, _read_by(seconds)]
"""Such as "10m"."""

Size = Annotated[str, _read_by(size)]
"""Such as "4G"."""
