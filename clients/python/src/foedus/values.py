"""Values of states and commands as Python has them."""

import json
import math
from typing import Any

from ._gen.common.v1 import node_pb2, value_pb2
from .errors import InvalidError

__all__ = ["Json", "Plain", "capability"]


class Json(str):
    """Json is the text of a JSON value, for capabilities of that type. `Json.of(x)` writes one, `.content()` reads it."""

    @classmethod
    def of(cls, content: Any) -> "Json":
        return cls(json.dumps(content, separators=(",", ":")))

    def content(self) -> Any:
        return json.loads(self)


Plain = bool | int | float | str | bytes | Json

TYPES: dict[type, "value_pb2.ValueType"] = {
    bool: value_pb2.VALUE_TYPE_BOOL,
    int: value_pb2.VALUE_TYPE_SINT64,
    float: value_pb2.VALUE_TYPE_DOUBLE,
    str: value_pb2.VALUE_TYPE_STRING,
    bytes: value_pb2.VALUE_TYPE_BYTES,
    Json: value_pb2.VALUE_TYPE_JSON,
}
# Bytes of texts and of JSON that hubs take.
TEXT_MAX, JSON_MAX = 4096, 16_384


def capability(
    name: str,
    type: type[bool] | type[int] | type[float] | type[str] | type[bytes] | type[Json],
    *,
    invocable: bool = False,
    readable: bool = True,
    unit: str = "",
    allowed: tuple[str, ...] | list[str] = (),
    min: float | None = None,
    max: float | None = None,
    step: float | None = None,
    idempotent: bool = False,
    description: str = "",
    schema: str = "",
) -> node_pb2.Capability:
    """capability describes what a node reports (`readable`) or can be told (`invocable`), and with which type of value.

    `unit` is of UCUM. `allowed` lists the values of a str; `min`, `max` and `step` bound an int or float. `idempotent`: to invoke it twice
    does what once does. `schema` is the JSON Schema of a Json.
    """
    return node_pb2.Capability(
        name=name,
        type=TYPES[type],
        invocable=invocable,
        readable=readable,
        unit=unit,
        allowed=allowed,
        min=min,
        max=max,
        step=step,
        idempotent=idempotent,
        description=description,
        schema=schema,
    )


def to_value(content: Plain | None, type: int = value_pb2.VALUE_TYPE_UNSPECIFIED) -> value_pb2.Value:
    """to_value writes a value; of `type` if that is known, so that 21 is a good temperature. Raises InvalidError."""
    if content is None:
        return value_pb2.Value()
    if isinstance(content, bool):
        return value_pb2.Value(bool_value=content)
    if isinstance(content, int):
        if type == value_pb2.VALUE_TYPE_DOUBLE:
            return value_pb2.Value(double_value=float(content))
        if not -(2**63) <= content < 2**63:
            raise InvalidError("VALUE_OUT_OF_RANGE", "the value does not fit into 64 bits")
        return value_pb2.Value(int_value=content)
    if isinstance(content, float):
        if math.isnan(content):
            raise InvalidError("VALUE_OUT_OF_RANGE", "the value is not a number (NaN)")
        return value_pb2.Value(double_value=content)
    if isinstance(content, Json) or (isinstance(content, str) and type == value_pb2.VALUE_TYPE_JSON):
        return value_pb2.Value(json_value=_short(content, JSON_MAX))
    if isinstance(content, str):
        return value_pb2.Value(string_value=_short(content, TEXT_MAX))
    if isinstance(content, (bytes, bytearray)):
        if len(content) > TEXT_MAX:
            raise InvalidError("VALUE_OUT_OF_RANGE", f"the value has more than {TEXT_MAX} bytes")
        return value_pb2.Value(bytes_value=bytes(content))
    raise InvalidError("VALUE_OUT_OF_RANGE", f"a value cannot be a {content.__class__.__name__}")


def _short(text: str, most: int) -> str:
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidError("VALUE_OUT_OF_RANGE", "the text has half of a surrogate pair in it") from None
    if length > most:
        raise InvalidError("VALUE_OUT_OF_RANGE", f"the value has more than {most} bytes")
    return text


def from_value(message: value_pb2.Value) -> Plain | None:
    """from_value reads a value; None for none."""
    kind = message.WhichOneof("kind")
    if kind is None:
        return None
    if kind == "json_value":
        return Json(message.json_value)
    content: Plain = getattr(message, kind)
    return content
