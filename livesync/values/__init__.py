"""Values that documents hold, and their one canonical encoding: exact to the bit, equal for equal values.

A history keeps them so, and two-way sync carries what JSON has no form for. Both rooms know this one, and
not each other.
"""

from .codec import CODEC, FIRST_FREE_CODE, HASH_BYTES, Codec, Kind, hash_of, shown_path

__all__ = ["CODEC", "FIRST_FREE_CODE", "HASH_BYTES", "Codec", "Kind", "hash_of", "shown_path"]
