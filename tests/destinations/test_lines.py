import io
import json

from hypothesis import given
from hypothesis import strategies as st

from livesync.delivery.record import AttachedFile, Batch, Op, Record, encode_document
from livesync.destinations._lines import encode_lines


def test_a_line_is_a_record_with_its_keys_in_order():
    batch = Batch(
        [Record(Op.UPSERT, "a/é", 7, frozenset({"created"})), Record(Op.DELETE, 'b"', 8)],
        ['{"z":1,"é":2}'.encode(), None],
    )

    assert encode_lines(batch).decode() == (
        '{"op":"upsert","id":"a/é","position":7,"document":{"z":1,"é":2}}\n{"op":"delete","id":"b\\"","position":8}\n'
    )


def test_files_come_last_and_only_where_a_record_speaks_of_them():
    file = AttachedFile("ä.txt", "text/plain", 3, "0" * 32, io.BytesIO(b"one"))
    records = [
        Record(Op.UPSERT, "a", 7, files=(file,)),
        Record(Op.UPSERT, "b", 7, files=()),
        Record(Op.UPSERT, "c", 7),
    ]

    lines = encode_lines(Batch(records, [b"{}"] * 3)).decode().splitlines()

    facts = f'{{"name":"ä.txt","media_type":"text/plain","size":3,"digest":"{"0" * 32}"}}'
    assert lines == [
        f'{{"op":"upsert","id":"a","position":7,"document":{{}},"files":[{facts}]}}',
        '{"op":"upsert","id":"b","position":7,"document":{},"files":[]}',
        '{"op":"upsert","id":"c","position":7,"document":{}}',
    ]


def test_no_records_are_no_bytes():
    assert encode_lines(Batch()) == b""


@given(
    st.lists(st.tuples(st.text(min_size=1), st.dictionaries(st.text(), st.text()) | st.none()), max_size=5)
)
def test_lines_read_back_as_what_they_were(made):
    batch = Batch(
        [Record(Op.DELETE if document is None else Op.UPSERT, key, 1) for key, document in made],
        [None if document is None else encode_document(document) for _, document in made],
    )

    lines = encode_lines(batch).split(b"\n")

    assert lines.pop() == b""
    read = [json.loads(line) for line in lines]
    assert [(line["id"], line.get("document")) for line in read] == made
