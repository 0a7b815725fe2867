"""Two-way sync of an application that livesync has a host for.

Objects of registered models travel as these say. Everything else that the host knows travels as its document,
and is made there by ``Host.restore``: any application whose host takes documents back can be synced.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, MutableMapping, Sequence
from typing import Any, Final

import msgspec

from ...action import CREATED, DATA_CHANGED, DELETED
from ...errors import NotInstalled
from ...host import Host
from ...keepers import forget_object
from ...manager import SyncManager
from ...peering.partitions import check_partition
from ..metadata.states import ItemState
from ..stores.base import BaseDataStore
from .documents import document_of, document_payload
from .executor import ChangesExecutor, Draft, MissingDependency, PlaceTaken
from .model import ModelRegistry, SyncableModel, calculate_item_id, encode_payload, partition_of, source_id_of

#: The model of everything that has none of its own.
DOCUMENT: Final = "document"

Recorder = Callable[[Any, Sequence[tuple[str, bool, bool]], str], None]


class HostExecutor(ChangesExecutor):
    """Carries changes out in the application of a host.

    Args:
        host: The application.
        models: Its own syncable models; None: those that the host names.
        recorder: Puts what was applied on the track; None: it is written into the manager's inbox. A capture
            that listens records more, such as what is made on the way; what both record counts once.
    """

    def __init__(
        self,
        host: Host,
        models: ModelRegistry | Iterable[type[SyncableModel]] | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self.host = host
        models = host.sync_models() if models is None else models
        self.models = models if isinstance(models, ModelRegistry) else ModelRegistry(models)
        self._record = recorder or record_in_inbox

    def knows(self, entity_name: str) -> bool:
        """Tell whether this is a registered model, or a document."""
        return entity_name == DOCUMENT or self.models.get(entity_name) is not None

    def depth(self, entity_name: str) -> int:
        """Return how deep a model lies below those that it depends on."""
        return self.models.depth(entity_name)

    # -- what the application has ------------------------------------------------------------------

    def draft(self, store: BaseDataStore, object_id: str) -> Draft | None:
        """Return what the application has of one of its objects now."""
        with self.host.at(store.connection) as host:
            return self._draft(store, host, object_id)

    def drafts(self, store: BaseDataStore, object_ids: Iterable[str]) -> Generator[Draft | None, None, None]:
        """Yield what the application has of each of these; it is set up once for all of them."""
        if type(self).draft is not HostExecutor.draft:
            yield from super().drafts(store, object_ids)  # a subclass has its own view of each
            return
        with self.host.at(store.connection) as host:
            for object_id in object_ids:
                yield self._draft(store, host, object_id)

    def _draft(self, store: BaseDataStore, host: Host, object_id: str) -> Draft | None:
        obj = host.get(object_id)
        if obj is None or host.is_never_synced(obj):
            return None
        if self.models.is_registered(obj):
            return self._model_draft(store, obj, object_id)
        if isinstance(obj, SyncableModel):
            return None
        return self._document_draft(host, obj, object_id)

    @staticmethod
    def _model_draft(
        store: BaseDataStore, obj: SyncableModel, object_id: str, known: str | None = None
    ) -> Draft:
        name = str(type(obj).model_name)
        source_id = source_id_of(obj)
        if source_id is not None:
            partition = partition_of(obj, source_id)
            item_id = calculate_item_id(partition, source_id, name)
        else:
            known = known or store.item_of(object_id)
            random_id = known or str(uuid.uuid5(uuid.UUID(store.database_id), object_id))
            partition, item_id = partition_of(obj, random_id), random_id
        return Draft(object_id, item_id, name, partition, encode_payload(obj.serialize()))

    def _document_draft(self, host: Host, obj: Any, object_id: str) -> Draft:
        partition = check_partition(host.sync_partition(obj))
        payload = document_payload(object_id, host.document(obj))
        return Draft(
            object_id, calculate_item_id(partition, object_id, DOCUMENT), DOCUMENT, partition, payload
        )

    def find(self, store: BaseDataStore, state: ItemState) -> str | None:
        """Return the id of the object that an item is, if the application has it already."""
        if state.entity_name != DOCUMENT or not state.payload:
            return None
        object_id = str(msgspec.json.decode(state.payload)["id"])
        with self.host.at(store.connection) as host:
            return None if host.get(object_id) is None else object_id

    def may_find(self, entity_name: str) -> bool:
        """Tell that documents say what their object is called, and models do not."""
        return entity_name == DOCUMENT

    def iter_ids(self, store: BaseDataStore, after: str | None) -> Iterator[str]:
        """Yield the ids of all objects, in ascending order."""
        with self.host.at(store.connection) as host:
            yield from host.iter_ids(after)

    def inside(self, store: BaseDataStore, object_id: str) -> Iterator[str]:
        """Yield the ids of everything below an object."""
        with self.host.at(store.connection) as host:
            obj = host.get(object_id)
            if obj is not None:
                for inner in host.contents(obj):
                    yield host.object_id(inner)

    # -- making it what the store says ---------------------------------------------------------------

    def execute(self, store: BaseDataStore, state: ItemState, object_id: str | None) -> Draft | None:
        """Make the application's object what ``state`` says."""
        if state.entity_name == DOCUMENT:
            return self._execute_document(store, state, object_id)
        return self._execute_model(store, self._model(state), state, object_id)

    def _model(self, state: ItemState) -> type[SyncableModel]:
        model = self.models.get(state.entity_name)
        if model is None:
            raise LookupError(f"there is no model {state.entity_name!r} here")
        return model

    def make(self, store: BaseDataStore, states: Iterable[ItemState]) -> Generator[Draft | None, None, None]:
        """Make new objects of models one by one; the host is set up once for all of them."""
        if type(self).execute is not HostExecutor.execute:
            yield from super().make(store, states)  # a subclass has its own way with each
            return
        yield from self._put_all(store, ((state, None) for state in states))

    def change(
        self, store: BaseDataStore, changes: Iterable[tuple[ItemState, str]]
    ) -> Generator[Draft | None, None, None]:
        """Change objects of models one by one; the host is set up once for all of them."""
        if type(self).execute is not HostExecutor.execute:
            yield from super().change(store, changes)
            return
        yield from self._put_all(store, changes)

    def _put_all(
        self, store: BaseDataStore, changes: Iterable[tuple[ItemState, str | None]]
    ) -> Generator[Draft | None, None, None]:
        assert store.connection is not None
        root = store.connection.root()
        with self.host.at(store.connection) as host:
            homes: dict[str, Any] = {}
            for state, object_id in changes:
                model, home = self._model(state), homes.get(state.entity_name)
                if home is None:
                    home = homes[state.entity_name] = model.sync_home(root)
                current = None if object_id is None else host.get(object_id)
                yield self._put(store, host, model, home, state, current)

    def _execute_document(
        self, store: BaseDataStore, state: ItemState, object_id: str | None
    ) -> Draft | None:
        with self.host.at(store.connection) as host:
            if not state.is_live:
                if object_id is not None and host.get(object_id) is not None:
                    host.restore(object_id, None)
                return None
            said_id, document = document_of(state.payload)
            host.restore(said_id, document)
        draft = self.draft(store, said_id)
        return self._checked(draft, state)

    def _execute_model(
        self, store: BaseDataStore, model: type[SyncableModel], state: ItemState, object_id: str | None
    ) -> Draft | None:
        assert store.connection is not None
        with self.host.at(store.connection) as host:
            current = None if object_id is None else host.get(object_id)
            home = model.sync_home(store.connection.root())
            if not state.is_live:
                if current is not None:
                    _take_out(home, current, current.sync_key(state.item_id))
                return None
            return self._put(store, host, model, home, state, current)

    def _put(
        self,
        store: BaseDataStore,
        host: Host,
        model: type[SyncableModel],
        home: MutableMapping[str, Any],
        state: ItemState,
        current: Any | None,
    ) -> Draft:
        """Make an object of a model what a live item says, and put it where it belongs."""
        data = msgspec.json.decode(state.payload)
        self._check_dependencies(store, model, data)
        old_key = None if current is None else current.sync_key(state.item_id)
        obj = model.deserialize(data, current)
        key = obj.sync_key(state.item_id)
        if old_key != key:
            self._check_place(store, host, home, key)
            if old_key is not None:
                _take_out(home, obj, old_key)
            home[key] = obj
        return self._checked(self._model_draft(store, obj, host.object_id(obj), state.item_id), state)

    @staticmethod
    def _check_place(store: BaseDataStore, host: Host, home: MutableMapping[str, Any], key: str) -> None:
        """Make sure that nothing is overwritten that nobody has taken from the application yet."""
        there = home.get(key)
        if there is not None and store.item_of(host.object_id(there)) is None:
            raise PlaceTaken(f"at {key!r} there is an object that was not taken into two-way sync")

    @staticmethod
    def _check_dependencies(store: BaseDataStore, model: type[SyncableModel], data: Any) -> None:
        for item_id in model.dependencies(data):
            if store.bound(item_id) is None:
                raise MissingDependency(f"{model.model_name} needs item {item_id}, which is not there yet")

    @staticmethod
    def _checked(draft: Draft | None, state: ItemState) -> Draft:
        if draft is None:
            raise LookupError(f"the application has not got item {state.item_id} after it was applied")
        if draft.item_id != state.item_id:
            raise ValueError(
                f"item {state.item_id} became {draft.item_id} as it was applied: its partition or its source"
                " id is not calculated alike on both nodes"
            )
        return draft

    def keeps_base(self, entity_name: str) -> bool:
        """Tell whether the model asks for it."""
        model = self.models.get(entity_name)
        return model is not None and model.keeps_base

    def merge(self, current: ItemState, incoming: ItemState, base: ItemState | None) -> str | None:
        """Ask the model."""
        model = self.models.get(current.entity_name)
        if model is None:
            return None
        merged = model.merge_conflict(
            msgspec.json.decode(current.payload),
            msgspec.json.decode(incoming.payload),
            None if base is None else msgspec.json.decode(base.payload),
        )
        return None if merged is None else encode_payload(merged)

    def erase(self, store: BaseDataStore, object_id: str) -> None:
        """Have everybody forget the object who keeps what it said: all versions that the database keeps.

        Raises:
            InvalidOperation: A merge waits for its conflicts to be resolved: it may hold the document.
        """
        if store.connection is not None:
            forget_object(store.connection.root(), object_id)

    def record(self, connection: Any, object_ids: Iterable[tuple[str, bool, bool]], origin: str) -> None:
        """Put what was applied on the track."""
        told = list(object_ids)
        if told and connection is not None:
            self._record(connection, told, origin)


def _take_out(home: Any, obj: Any, key: str) -> None:
    """Take an object out of where it lies, under this key or, if the application chose it, another one."""
    if home.get(key) is not obj:
        key = next(found for found, value in home.items() if value is obj)
    del home[key]


def record_in_inbox(connection: Any, object_ids: Sequence[tuple[str, bool, bool]], origin: str) -> None:
    """Write what was applied into the inbox of the manager, with where it comes from as its user."""
    try:
        manager = SyncManager.get(connection.root(), to_record=True)
    except NotInstalled:
        return  # no agents, so nobody to tell
    changes = [
        (object_id, frozenset({DATA_CHANGED if before and after else CREATED if after else DELETED}))
        for object_id, before, after in object_ids
        if before or after
    ]
    manager.record_changes(changes, f"peer:{origin}", "two-way sync")
