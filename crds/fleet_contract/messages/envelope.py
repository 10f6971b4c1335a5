"""Envelopes: canonical JSON with room for a signature, and plain versioned messages."""

import hashlib
import json
import math
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from fleet_contract.errors import Reject, RejectCode, Untrusted

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Signer = Callable[[bytes], tuple[str, str]]
"""Bytes to sign → (key id, signature)."""
Verifier = Callable[[str, bytes, str], None]
"""(key id, signed bytes, signature) → nothing, or raises ``Untrusted``."""
MALFORMED_JSON = (ValueError, KeyError, TypeError, RecursionError)
"""What reading JSON from a stranger can raise; brackets without end exhaust the stack."""


def digest_of(data: bytes | memoryview) -> str:
    """The one way content is named."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def canonical(value: Any) -> bytes:
    """JSON with sorted keys, no spaces and no floats, as UTF-8; the bytes that get signed."""
    _refuse_floats(value, "body")
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def _refuse_floats(value: Any, path: str) -> None:
    if isinstance(value, float):
        raise TypeError(f"{path} is a float; signed documents carry integers and strings only")
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_floats(item, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_floats(item, f"{path}[{index}]")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _finite(item)
            for key, item in value.items()
            if not (isinstance(item, float) and not math.isfinite(item))
        }
    return value


class Wire(BaseModel):
    """Base of everything sent: camelCase on the wire, immutable in Python."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )


class Message(Wire):
    """A plain message; JSON, unsigned."""

    V: ClassVar[int] = 1
    v: int = 1

    def encode(self) -> bytes:
        """Without what is absent or not finite: a NaN among the metrics costs no heartbeat."""
        dumped = _finite(self.model_dump(by_alias=True, exclude_none=True))
        return json.dumps(dumped, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises ``Reject`` on anything but a message of a known version."""
        try:
            message = cls.model_validate_json(data)
        except ValidationError as fault:
            raise Reject(RejectCode.MALFORMED, f"{cls.__name__}: {first_error(fault)}") from fault
        if message.v != cls.V:
            raise Reject(
                RejectCode.MALFORMED, f"{cls.__name__} v{message.v}; this program reads v{cls.V}"
            )
        return message


class Document(Wire):
    """The body of a signed document."""

    KIND: ClassVar[str]
    V: ClassVar[int] = 1

    def seal(self, sign: Signer | None = None) -> bytes:
        """Envelope ``{kind, v, keyId, body, sig}`` in canonical form."""
        body = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        signed = canonical({"kind": self.KIND, "v": self.V, "body": body})
        key_id, signature = sign(signed) if sign else ("", "")
        return canonical(
            {"kind": self.KIND, "v": self.V, "keyId": key_id, "body": body, "sig": signature}
        )

    @classmethod
    def open(cls, data: bytes, verify: Verifier | None = None) -> Self:
        """Verify, then parse. Raises ``Untrusted`` when kind, version, signature or body is off."""
        try:
            envelope = json.loads(data)
            kind, version, body = envelope["kind"], envelope["v"], envelope["body"]
            signed = canonical({"kind": kind, "v": version, "body": body})
        except MALFORMED_JSON as fault:
            raise Untrusted(f"not a signed document: {fault!r:.200}") from fault
        if (kind, version) != (cls.KIND, cls.V):
            raise Untrusted(f"expected {cls.KIND} v{cls.V}, found {kind} v{version}")
        if verify:
            verify(str(envelope.get("keyId", "")), signed, str(envelope.get("sig", "")))
        try:
            return cls.model_validate(body)
        except ValidationError as fault:
            raise Untrusted(f"{cls.KIND}: {first_error(fault)}") from fault


def first_error(fault: ValidationError) -> str:
    error = fault.errors(include_url=False)[0]
    return f"{'.'.join(map(str, error['loc'])) or 'document'}: {error['msg']}"
