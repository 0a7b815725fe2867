"""Searching in what livesync's agent ``index`` keeps in a file: the published notes, by their words."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

_QUERY = """
    SELECT documents.document FROM documents_fts JOIN documents USING (object_id)
    WHERE documents_fts MATCH ? ORDER BY rank LIMIT 50
"""


def search(index, words):
    """Return the documents that hold all the words, the best first; none while there is no index."""
    asked = " ".join('"{}"'.format(word.replace('"', '""')) for word in words.split())
    if not asked or not Path(index).is_file():
        return []
    with closing(sqlite3.connect(f"file:{index}?mode=ro", uri=True, timeout=2)) as file:
        return [json.loads(document) for (document,) in file.execute(_QUERY, (asked,))]
