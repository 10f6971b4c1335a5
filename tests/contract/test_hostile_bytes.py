"""Whatever arrives is read, or refused with a reason; it never crashes who reads it."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contract.examples import BATCH, DOCUMENTS, MESSAGES, sign, verify
from fleet_contract.errors import Reject, Untrusted
from fleet_contract.messages import (
    EpisodeMode,
    Outcome,
    Record,
    canonical,
    decode_batch,
    digest_of,
    encode_batch,
)

NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)
TIMES = st.floats(min_value=0, max_value=1e11)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
DEEP = b"[" * 200_000


@st.composite
def entries(draw: st.DrawFn) -> tuple[Record, bytes]:
    by_reference = draw(st.booleans())
    payload = b"" if by_reference else draw(st.binary(max_size=200))
    record = Record(
        robot=draw(NAMES),
        robot_uid=draw(TEXTS),
        job_uid=draw(TEXTS),
        spool_id=draw(TEXTS),
        n=draw(st.integers(1, 2**63)),
        episode_id=draw(TEXTS),
        segment=draw(st.integers(0, 10)),
        last=draw(st.booleans()),
        manifest=draw(st.none() | st.binary(max_size=4).map(digest_of)),
        mode=draw(st.sampled_from(EpisodeMode)),
        task=draw(NAMES),
        outcome=draw(st.none() | st.sampled_from(Outcome)),
        digest=digest_of(payload),
        size=draw(st.integers(0, 2**40)) if by_reference else len(payload),
        uri="jobs/job-uid/payload/sha256-x" if by_reference else None,
        started_at=draw(TIMES),
        ended_at=draw(TIMES),
    )
    return record, payload


def mutations(data: bytes) -> st.SearchStrategy[bytes]:
    """The bytes with a piece overwritten, cut out or put in."""
    place = st.integers(0, len(data))
    return st.builds(
        lambda at, length, new: data[:at] + new + data[at + length :],
        place,
        st.integers(0, 40),
        st.binary(max_size=40),
    )


@given(st.lists(entries(), max_size=5))
def test_a_batch_decodes_to_what_was_encoded(batch: list[tuple[Record, bytes]]) -> None:
    assert decode_batch(encode_batch(batch)) == batch


@given(st.binary(max_size=300))
@example(b"FLB1\xff\xff\xff\xff")
@example(b"FLB1" + len(DEEP).to_bytes(4, "little") + DEEP)
def test_bytes_that_are_no_batch_are_rejected(data: bytes) -> None:
    with pytest.raises(Reject, match=r".+"):
        decode_batch(data)


@given(mutations(encode_batch(BATCH)))
def test_a_damaged_batch_is_rejected_or_accounts_for_every_byte(data: bytes) -> None:
    with suppress(Reject):
        found = decode_batch(data)
        inline = [record.size for record, _ in found if not record.uri and not record.evicted]
        assert sum(inline) == sum(len(payload) for _, payload in found) <= len(data)


@given(JSON)
def test_a_batch_header_of_any_json_is_rejected_or_read(header: Any) -> None:
    text = json.dumps({"v": 1, "records": header}).encode()
    with suppress(Reject):
        decode_batch(b"FLB1" + len(text).to_bytes(4, "little") + text)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"size": -1}, "size"),
        ({"size": -1, "uri": "jobs/x"}, "size"),
        ({"n": 0}, "n: "),
        ({"startedAt": float("nan")}, "startedAt"),
        ({"endedAt": float("inf")}, "endedAt"),
        ({"digest": "md5:00"}, "digest"),
        ({"mode": "party"}, "mode"),
        ({"robot": None}, "robot"),
        ({"size": 10**9}, "cut short in record 129"),
        ({"size": 3}, "bytes after the last record"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_record_that_cannot_be_is_rejected_by_its_field(
    change: dict[str, Any], reason: str
) -> None:
    record, payload = BATCH[0]
    dumped = record.model_dump(mode="json", by_alias=True) | change
    text = json.dumps({"v": 1, "records": [dumped]}).encode()
    with pytest.raises(Reject, match=reason):
        decode_batch(b"FLB1" + len(text).to_bytes(4, "little") + text + payload)


@pytest.mark.parametrize("name", DOCUMENTS)
@given(st.data())
def test_a_damaged_document_is_not_trusted_or_says_the_same(name: str, data: st.DataObject) -> None:
    original = DOCUMENTS[name]
    damaged = data.draw(mutations(original.seal(sign)))
    with suppress(Untrusted):
        assert type(original).open(damaged, verify) == original


@pytest.mark.parametrize("name", DOCUMENTS)
@given(JSON)
def test_a_signed_document_with_any_body_is_refused_or_read(name: str, body: Any) -> None:
    kind = type(DOCUMENTS[name])
    envelope = {"kind": kind.KIND, "v": kind.V, "body": body, "keyId": "k", "sig": "s"}
    with pytest.raises(Untrusted):
        kind.open(json.dumps(envelope).encode(), verify)


HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "no UTF-8": b"\xff\xfe\x00",
    "no object": b"[1, 2]",
    "an envelope that is empty": b"{}",
    "a float in the body": b'{"kind":"%s","v":1,"keyId":"k","sig":"s","body":{"x":1.5}}',
    "a half character in the body": b'{"kind":"%s","v":1,"keyId":"k","sig":"s","body":"\\ud800"}',
    "a key that is a list": b'{"kind":"%s","v":1,"keyId":[],"sig":{},"body":{}}',
    "brackets without end": DEEP,
    "brackets without end in the body": b'{"kind":"%s","v":1,"body":' + DEEP,
    "a number of ten thousand digits": b'{"kind":"%s","v":' + b"1" * 10_000 + b',"body":{}}',
}


@pytest.mark.parametrize("verifier", [verify, None], ids=["verified", "unverified"])
@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_hostile_document_is_not_trusted(
    name: str, what: str, verifier: Callable[[str, bytes, str], None] | None
) -> None:
    kind = type(DOCUMENTS[name])
    with pytest.raises(Untrusted):
        kind.open(HOSTILE[what].replace(b"%s", kind.KIND.encode()), verifier)


@pytest.mark.parametrize("name", MESSAGES)
@given(st.data())
def test_a_damaged_message_is_rejected_or_read(name: str, data: st.DataObject) -> None:
    kind = type(MESSAGES[name])
    damaged = data.draw(mutations(MESSAGES[name].encode()))
    with suppress(Reject):
        assert isinstance(kind.decode(damaged), kind)


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", DEEP, b'{"v": "1"}'], ids=range(5))
def test_bytes_that_are_no_message_are_rejected(name: str, data: bytes) -> None:
    with pytest.raises(Reject):
        type(MESSAGES[name]).decode(data)


@given(JSON)
def test_canonical_json_either_says_the_same_or_refuses(value: Any) -> None:
    with suppress(TypeError, UnicodeEncodeError):  # floats; half a character
        assert json.loads(canonical(value)) == value
