"""A small Django site whose items morango syncs: the other side of ``bench/morango.py``.

It runs in an environment of its own, with morango and Django, and knows nothing of livesync.
"""
