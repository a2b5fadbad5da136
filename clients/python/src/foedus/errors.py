"""Errors of hubs and of this client, with a reason for programs and a remedy for people (docs/ERRORS.md)."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.any_pb2 import Any as Detail
from google.protobuf.message import DecodeError

from ._gen import error_details_pb2, status_pb2
from ._gen.common.v1 import error_pb2
from ._gen.reasons import Reason

__all__ = [
    "ConflictError",
    "DeniedError",
    "ExpiredError",
    "FoedusError",
    "InternalError",
    "InvalidError",
    "LimitError",
    "NotFoundError",
    "OutcomeUnknownError",
    "Reason",
    "StoppedError",
    "UnavailableError",
    "UsageError",
]

PREFIX = "ERROR_REASON_"


@dataclasses.dataclass(frozen=True)
class Rule:
    """Rule is what the schema says about a reason."""

    code: int
    retryable: bool
    remedy: str


def _rules() -> dict[str, Rule]:
    rules = {}
    for value in error_pb2.ErrorReason.DESCRIPTOR.values:
        rule: Any = value.GetOptions().Extensions[error_pb2.rule]  # type: ignore[index]
        rules[value.name.removeprefix(PREFIX)] = Rule(rule.code, rule.retryable, rule.remedy)
    return rules


RULES: Mapping[str, Rule] = _rules()


class FoedusError(Exception):
    """FoedusError is the base of all errors here. Catch a subclass for its kind, or compare `reason`.

    `reason` is one of docs/ERRORS.md, `message` says what is wrong in this case, `remedy` what to do about errors of this reason.
    `retryable` says that the same may succeed later, and `retry_after` for how many seconds to wait before; None for as long as you like.
    `fields` are the fields at fault. `facts` are for programs. `details` says that a hub answered; else the error is the client's or the
    network's. A handler of commands raises FoedusError(reason, message) to fail with that reason.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        fields: Iterable[str] = (),
        retry_after: float | None = None,
        facts: Mapping[str, str] | None = None,
        remedy: str | None = None,
        details: bool = False,
    ) -> None:
        super().__init__(reason, message)
        rule = RULES[reason]
        self.reason: Reason = reason
        self.message = message
        self.fields = tuple(fields)
        self.retry_after = retry_after
        self.facts: Mapping[str, str] = facts or {}
        self.remedy = rule.remedy if remedy is None else remedy
        self.retryable = rule.retryable
        self.details = details

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}. {self.remedy}"


class InvalidError(FoedusError):
    """InvalidError is a request or value that is wrong in itself: INVALID_FIELD, VALUE_OUT_OF_RANGE, SEGMENT_INVALID."""


class NotFoundError(FoedusError):
    """NotFoundError is a node, capability or peer that is not there."""


class DeniedError(FoedusError):
    """DeniedError is a certificate, kind of caller, scope or share that does not allow it."""


class ConflictError(FoedusError):
    """ConflictError is a request that does not fit the state of things: a node of another's, a stream that was replaced, a failed executor."""


class LimitError(FoedusError):
    """LimitError is a limit, a rate or a full store."""


class UnavailableError(FoedusError):
    """UnavailableError is a hub, node or executor that cannot be reached now."""


class ExpiredError(FoedusError):
    """ExpiredError is a deadline that passed; what was asked for was provably not started, if a hub says so (`details`)."""


class OutcomeUnknownError(FoedusError):
    """OutcomeUnknownError is a command that may have run or not. Look at the device; do not repeat it blindly."""


class StoppedError(FoedusError):
    """StoppedError is a call or stream that was cancelled or closed here."""


class InternalError(FoedusError):
    """InternalError is a bug in a hub, or data that it lost."""


class UsageError(FoedusError):
    """UsageError is a connection that is described wrongly: a file, an address or a context."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__("INVALID_FIELD", message, remedy=remedy)

    def __str__(self) -> str:
        return f"{self.message}. {self.remedy}"


# Kinds of errors by the gRPC code of their reason.
KINDS: Mapping[int, type[FoedusError]] = {
    1: StoppedError,
    2: OutcomeUnknownError,
    3: InvalidError,
    4: ExpiredError,
    5: NotFoundError,
    6: ConflictError,
    7: DeniedError,
    8: LimitError,
    9: ConflictError,
    10: ConflictError,
    11: InvalidError,
    13: InternalError,
    14: UnavailableError,
    15: InternalError,
    16: DeniedError,
}

# What gRPC codes mean that come without our details, from other software or from gRPC itself.
REASON_OF_CODE: Mapping[int, Reason] = {
    1: "CANCELLED",
    3: "INVALID_FIELD",
    4: "DEADLINE_EXPIRED",
    6: "ALREADY_EXISTS",
    7: "ACCESS_DENIED",
    8: "OVERLOADED",
    9: "NOT_CONFIGURED",
    11: "VALUE_OUT_OF_RANGE",
    12: "UPGRADE_NEEDED",
    14: "PEER_UNREACHABLE",
    16: "UNKNOWN_IDENTITY",
}

# What gRPC says of failed connections, and what that means.
CONNECTION_TEXTS: tuple[tuple[str, Reason, str], ...] = (
    ("peer name", "UNKNOWN_IDENTITY", "the server's certificate is not that of this hub"),
    ("hostname verification", "UNKNOWN_IDENTITY", "the server's certificate is not that of this hub"),
    ("certificate has expired", "CERTIFICATE_EXPIRED", "a certificate has expired"),
    ("certificate is not yet valid", "CERTIFICATE_EXPIRED", "a certificate is not valid yet"),
    ("certificate_verify_failed", "FOREIGN_CA", "the server's certificate is not signed by a CA of this hub"),
    ("certificate verify failed", "FOREIGN_CA", "the server's certificate is not signed by a CA of this hub"),
    ("unknown ca", "FOREIGN_CA", "the server does not know the CA of this certificate"),
    ("wrong version number", "PEER_UNREACHABLE", "what listens there does not speak TLS"),
    ("connection refused", "PEER_UNREACHABLE", "nothing listens there"),
    ("dns resolution failed", "PEER_UNREACHABLE", "the host name does not resolve"),
    ("domain name not found", "PEER_UNREACHABLE", "the host name does not resolve"),
)

# gRPC made no connection: the request was not sent.
UNSENT_TEXT = "failed to connect to all addresses"


def make_error(
    reason: Reason,
    message: str,
    *,
    fields: Iterable[str] = (),
    retry_after: float | None = None,
    facts: Mapping[str, str] | None = None,
    remedy: str | None = None,
    details: bool = False,
) -> FoedusError:
    """make_error makes an error of the kind that fits the reason."""
    kind = KINDS.get(RULES[reason].code, FoedusError)
    return kind(reason, message, fields=fields, retry_after=retry_after, facts=facts, remedy=remedy, details=details)


def of_failure(failure: error_pb2.Failure) -> FoedusError:
    """of_failure reads a Failure that stands in a message instead of a status."""
    name = error_pb2.ErrorReason.Name(failure.reason) if failure.reason in error_pb2.ErrorReason.values() else ""
    fields = [failure.field] if failure.field else []
    return make_error(_known(name.removeprefix(PREFIX)) or "INTERNAL", failure.message, fields=fields, details=True)


def to_failure(error: FoedusError) -> error_pb2.Failure:
    """to_failure writes an error into a message."""
    field = error.fields[0] if error.fields else ""
    return error_pb2.Failure(reason=PREFIX + error.reason, message=error.message[:1024], field=field)


def of_status(code: int, text: str, details: bytes | None, address: str) -> FoedusError:
    """of_status reads how a call ended: its code, its text and the google.rpc.Status of its trailers."""
    told = None if details is None else _of_details(text, details)
    if told is not None:
        return told
    if code == 14:
        lower = text.lower()
        for part, reason, words in CONNECTION_TEXTS:
            if part in lower:
                return _unreachable(reason, f"at {address}: {words}", code, text)
        return _unreachable("PEER_UNREACHABLE", f"no connection to {address}", code, text)
    if code == 8 and "larger than" in text.lower():
        return make_error("MESSAGE_TOO_LARGE", text, facts=_facts(code, text))
    return make_error(REASON_OF_CODE.get(code, "INTERNAL"), text or "the call failed", facts=_facts(code, text))


def _unreachable(reason: Reason, message: str, code: int, text: str) -> FoedusError:
    # What the schema says is for hubs that have lost a peer.
    remedy = "Start the hub, or correct the address." if reason == "PEER_UNREACHABLE" else "Check the address and the certificates."
    return make_error(reason, message, retry_after=0.0, facts=_facts(code, text), remedy=remedy)


def _facts(code: int, text: str) -> dict[str, str]:
    return {"grpc_code": str(code), "grpc_text": text}


def unsent(error: FoedusError) -> bool:
    """unsent says that a request provably did not leave."""
    return UNSENT_TEXT in error.facts.get("grpc_text", "").lower()


def _known(name: str) -> Reason | None:
    return name if name in RULES and name != "UNSPECIFIED" else None  # type: ignore[return-value]


def _is(detail: Detail, name: str) -> bool:
    return detail.type_url.rsplit("/", 1)[-1] == f"google.rpc.{name}"


def _of_details(text: str, raw: bytes) -> FoedusError | None:
    reason: Reason | None = None
    facts: dict[str, str] = {}
    fields: list[str] = []
    retry_after: float | None = None
    try:
        for detail in status_pb2.Status.FromString(raw).details:
            if _is(detail, "ErrorInfo"):
                info = error_details_pb2.ErrorInfo.FromString(detail.value)
                if info.domain == "foedus":
                    reason, facts = _known(info.reason), dict(info.metadata)
            elif _is(detail, "BadRequest"):
                fields += [one.field for one in error_details_pb2.BadRequest.FromString(detail.value).field_violations]
            elif _is(detail, "RetryInfo"):
                delay = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
                retry_after = delay.seconds + delay.nanos / 1e9
    except DecodeError:
        return None
    if reason is None:
        return None
    return make_error(reason, text, fields=fields, retry_after=retry_after, facts=facts, details=True)
