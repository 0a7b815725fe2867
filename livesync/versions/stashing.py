"""Changes that are not registered: thrown away, or put aside and taken up again."""

from __future__ import annotations

from ..errors import InvalidOperation
from .stash import applied_stash, packed_stash
from .tracked import TrackedCollection


class StashingCollection(TrackedCollection):
    """The part of a collection that takes changes away, and brings them back."""

    def discard_changes(self) -> bool:
        """Make the working documents what they are at the current version; False without versions.

        Raises:
            ReadOnlyHost: The application takes no documents back.
        """
        if not self.is_tracked:
            return False
        contents, key = self.contents, self.names.head[1]
        changed = [document_id for _, document_id in self.changes()]
        self.working.write([(one, contents.value(one, key)) for one in changed])
        self._settle()
        return True

    def stash(self, overwrite: bool = False) -> bool:
        """Put the changes aside and discard them; False where there are none.

        Raises:
            InvalidOperation: Something is stashed already, and ``overwrite`` is False.
        """
        changed = [document_id for _, document_id in self.changes()]
        if not changed:
            return False
        if self.has_stash and not overwrite:
            raise InvalidOperation("something is stashed already: apply it, discard it, or overwrite it")
        packed = packed_stash(self.contents, self.working.read(changed))
        self.discard_changes()
        self.contents.stored.references.stash = packed
        return True

    def stash_apply(self) -> bool:
        """Write what is stashed into the working documents, and keep it no longer; False where nothing is.

        Raises:
            InvalidOperation: There are changes.
        """
        if not self.has_stash:
            return False
        self._check_clean("what is stashed is applied")
        references = self.contents.stored.references
        stashed = applied_stash(self.contents, references.stash)
        self.working.write(stashed)
        self.contents.stored.touched.update([document_id for document_id, _ in stashed])
        references.stash = None
        return True

    def stash_discard(self) -> bool:
        """Throw away what is stashed; tell whether there was anything."""
        if not self.has_stash:
            return False
        self.contents.stored.references.stash = None
        return True
