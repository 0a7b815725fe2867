"""A small real host application: a catalogue of conferences and their talks in ZODB.

``python -m livesync.demo replay`` replays recorded edits of such a catalogue through ordinary zope
events, ``python -m livesync.demo dump`` writes what an index of it must equal. The application's own
code (``places``, ``model``, ``editor``, ``visibility``) knows nothing of livesync; ``host`` is the adapter
between the two.
"""
