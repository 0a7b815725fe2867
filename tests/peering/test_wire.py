import msgspec
import pytest

from livesync.forms import decode_json
from livesync.peering import wire


def test_the_schemas_of_all_bodies_can_be_made():
    kinds = [
        kind
        for kind in vars(wire).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == wire.__name__
    ]

    _, components = msgspec.json.schema_components(kinds)

    assert {"Buffer", "Offer", "NewSyncSession", "Transfer", "Error"} <= set(components)


def test_an_item_travels_with_no_more_than_it_needs():
    item = wire.Item(id="a", entity="note", partition="F1", payload='{"t":1}', dot=("p", 5))

    body = msgspec.json.encode(item)

    assert body == b'{"id":"a","entity":"note","partition":"F1","payload":"{\\"t\\":1}","dot":["p",5]}'
    assert decode_json(body, wire.Item) == item


@pytest.mark.parametrize(
    "body",
    [
        b'{"id":"","entity":"n","partition":"","dot":["p",5]}',
        b'{"id":"a","entity":"n","partition":"","dot":["p",0]}',
        b'{"id":"a","entity":"n","partition":"","dot":["p"]}',
        b'{"id":"a","entity":"n","partition":"","dot":["p",5],"length":0}',
        b'{"id":"a","entity":"n","partition":"","dot":["p",5],"vector":{"q":-1}}',
        b'{"id":"a","entity":"n","partition":"","dot":["p",5],"more":1}',
    ],
)
def test_an_item_of_another_form_is_not_taken(body):
    with pytest.raises(msgspec.ValidationError):
        decode_json(body, wire.Item)


def test_every_code_has_a_status_that_says_whose_fault_it_is():
    assert all(400 <= status < 600 for status, _, _ in wire.CODES.values())
    assert {code for code, (status, _, _) in wire.CODES.items() if status >= 500} == {
        "internal",
        "conflict",
        "database",
        "busy",
    }
