"""The bytes of yesterday: programs of different age meet in one fleet."""

import json
import math

import pytest

from contract.examples import BATCH, CONFIGS, DOCUMENTS, GOLDEN, MESSAGES, golden, sign, verify
from fleet_contract import messages
from fleet_contract.errors import Reject, Untrusted
from fleet_contract.messages import Document, Message, decode_batch


@pytest.mark.parametrize("file", sorted(golden()))
def test_what_travels_is_written_as_it_always_was(file: str) -> None:
    assert (GOLDEN / file).read_bytes() == golden()[file]


def test_every_message_and_document_has_a_golden_file() -> None:
    exported = [getattr(messages, name) for name in messages.__all__]
    kinds = {
        kind for kind in exported if isinstance(kind, type) and issubclass(kind, Message | Document)
    } - {Message, Document}
    assert kinds == {type(example) for example in (*DOCUMENTS.values(), *MESSAGES.values())}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_golden_document_opens_to_what_was_sealed(name: str) -> None:
    data = (GOLDEN / f"{name}.json").read_bytes()
    assert type(DOCUMENTS[name]).open(data, verify) == DOCUMENTS[name]


@pytest.mark.parametrize("name", MESSAGES)
def test_a_golden_message_decodes_to_what_was_encoded(name: str) -> None:
    data = (GOLDEN / f"{name}.json").read_bytes()
    assert type(MESSAGES[name]).decode(data) == MESSAGES[name]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_golden_configuration_is_read_back(name: str) -> None:
    data = (GOLDEN / f"{name}.json").read_bytes()
    assert type(CONFIGS[name]).model_validate_json(data) == CONFIGS[name]


def test_the_golden_batch_decodes_to_its_records_and_payloads() -> None:
    assert decode_batch((GOLDEN / "batch.bin").read_bytes()) == BATCH


@pytest.mark.parametrize("name", [*DOCUMENTS, *MESSAGES])
def test_every_field_of_an_example_is_set(name: str) -> None:
    """Or its golden file would not notice that the field is gone."""
    example = DOCUMENTS.get(name) or MESSAGES[name]
    assert set(type(example).model_fields) - {"v"} == example.model_fields_set


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_with_a_field_of_tomorrow_is_read(name: str) -> None:
    data = json.loads((GOLDEN / f"{name}.json").read_bytes()) | {"tomorrow": {"deep": [1]}}
    assert type(MESSAGES[name]).decode(json.dumps(data).encode()) == MESSAGES[name]


def test_a_number_that_is_not_finite_is_left_out_and_the_rest_arrives() -> None:
    heartbeat = MESSAGES["learner_heartbeat"].model_copy(update={"data_wait": math.nan})
    assert type(heartbeat).decode(heartbeat.encode()) == heartbeat.model_copy(
        update={"data_wait": 0.0}
    )
    announcement = MESSAGES["announcement"].model_copy(
        update={"metrics": {"loss": math.inf, "success": 0.5}}
    )
    assert type(announcement).decode(announcement.encode()) == announcement.model_copy(
        update={"metrics": {"success": 0.5}}
    )


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_of_another_version_is_refused_by_number(name: str) -> None:
    data = json.loads((GOLDEN / f"{name}.json").read_bytes()) | {"v": 2}
    with pytest.raises(Reject, match="v2; this program reads v1"):
        type(MESSAGES[name]).decode(json.dumps(data).encode())


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_with_a_field_of_tomorrow_is_verified_with_it_and_read(name: str) -> None:
    kind = type(DOCUMENTS[name])
    envelope = json.loads((GOLDEN / f"{name}.json").read_bytes())
    envelope["body"]["tomorrow"] = 1
    with pytest.raises(Untrusted, match="does not fit"):
        kind.open(json.dumps(envelope).encode(), verify)
    signed = messages.canonical({key: envelope[key] for key in ("kind", "v", "body")})
    envelope["keyId"], envelope["sig"] = sign(signed)
    assert kind.open(json.dumps(envelope).encode(), verify) == DOCUMENTS[name]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_of_another_version_or_kind_is_not_trusted(name: str) -> None:
    kind = type(DOCUMENTS[name])
    envelope = json.loads((GOLDEN / f"{name}.json").read_bytes())
    for change in ({"v": 2}, {"kind": "Other"}):
        with pytest.raises(Untrusted, match=f"expected {kind.KIND} v1, found"):
            kind.open(json.dumps(envelope | change).encode())


def test_canonical_json_is_one_form_of_a_value() -> None:
    left = messages.canonical({"b": [1, "ü"], "a": {"y": None, "x": True}})
    right = messages.canonical({"a": {"x": True, "y": None}, "b": [1, "ü"]})
    assert left == right == '{"a":{"x":true,"y":null},"b":[1,"ü"]}'.encode()


@pytest.mark.parametrize(
    ("value", "path"), [(1.0, "body"), ({"a": [1, 2.5]}, r"body\.a\[1\]"), ([float("nan")], "body")]
)
def test_canonical_json_refuses_floats_and_says_where(value: object, path: str) -> None:
    with pytest.raises(TypeError, match=f"{path}.* is a float"):
        messages.canonical(value)
