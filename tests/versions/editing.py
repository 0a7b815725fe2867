"""What tests of collections do again and again: edits, those of people and random ones."""

import datetime
import struct
from zoneinfo import ZoneInfo

#: Two NaNs of other bits.
NANS = [
    struct.unpack("<d", struct.pack("<Q", bits))[0] for bits in (0x7FF8_0000_0000_0001, 0xFFF8_0000_0000_0007)
]

#: Keys that Python takes for equal.
ALIKE = (1, True, 1.0, 0, False, 0.0)

FOLDED = datetime.datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)


def edit(docs, message=None, **documents):
    """Write documents, None removes one; with a message register them, and tell whether that made any."""
    for document_id, document in documents.items():
        if document is None:
            del docs.documents[document_id]
        else:
            docs.documents[document_id] = document
    return message is None or docs.register(message)


def edited(value, mood):
    """Return ``value`` with one edit somewhere inside, as people or programs make them."""
    kind = type(value)
    if kind is dict and value:
        return edited_dict(dict(value), mood)
    if kind in (list, tuple) and value:
        return kind(edited_list(list(value), mood))
    if kind is str and value:
        place = mood.randrange(len(value) + 1)
        return value[:place] + mood.choice(["x", "\n", "a word "]) + value[place + mood.randrange(3) :]
    if kind is datetime.datetime and mood.randrange(2):
        return value.replace(fold=1 - value.fold)
    if kind is float and mood.randrange(2):
        return NANS[mood.randrange(2)]
    return mood.choice([1, True, 1.0, None, "new", [1, 2], {"k": 0.0}, -0.0, FOLDED])


def edited_dict(value, mood):
    key = mood.choice(list(value))
    what = mood.randrange(6)
    if what == 0:
        del value[key]
    elif what == 5 and key in ALIKE:
        value[mood.choice([one for one in ALIKE if one == key])] = value.pop(key)
    elif what == 1:
        value[key] = value.pop(key)  # moves to the end
    elif what == 2:
        value[mood.choice(["a", 1, True, 1.0, "new", b"x"])] = mood.randrange(3)
    else:
        value[key] = edited(value[key], mood)
    return value


def edited_list(value, mood):
    place = mood.randrange(len(value))
    what = mood.randrange(5)
    if what == 0:
        del value[place]
    elif what == 1:
        value.insert(place, mood.choice(value))
    elif what == 2:
        value.insert(mood.randrange(len(value)), value.pop(place))
    elif what == 3:
        mood.shuffle(value)
    else:
        value[place] = edited(value[place], mood)
    return value
