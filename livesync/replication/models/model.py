"""SyncableModel: a mixin for the application's own persistent classes, and the registry of them.

Two nodes that create "the same" object agree about it, since its item's id is calculated from its partition,
its source id and its model's name.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, ClassVar, Final

import msgspec
from persistent import Persistent

from ...errors import UsageError
from ...peering.partitions import check_partition

_NAMESPACE: Final = uuid.UUID("0f3f7d7c-6a55-5d1f-8f7e-7f6f3c2b1a90")

_encoder = msgspec.json.Encoder(order="deterministic")


def calculate_item_id(partition: str, source_id: str, model_name: str) -> str:
    """Return the id of an item, a UUID (RFC 9562, version 5): the same wherever it is calculated."""
    name = f"[{quoted(partition)}, {quoted(source_id)}, {quoted(model_name)}]"
    # what uuid.uuid5 does, in a fifth of its time: each look at an object of the application asks for one
    made = bytearray(hashlib.sha1(_NAMESPACE.bytes + name.encode(), usedforsecurity=False).digest()[:16])
    made[6] = made[6] & 0x0F | 0x50
    made[8] = made[8] & 0x3F | 0x80
    text = made.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def encode_payload(data: Mapping[str, Any]) -> str:
    """Return data as JSON text that is the same for equal data.

    Raises:
        TypeError: It holds something that JSON has not.
    """
    return _encoder.encode(data).decode()


class SyncableModel(Persistent):
    """A persistent object that takes part in two-way sync.

    Attributes:
        sync_profile: A name for all models that belong together: only nodes of one profile sync.
        model_name: What the model is called, on every node; None: it is not synced.
        fields_not_to_serialize: Attributes that stay here.
        model_dependencies: Names of models that are applied before this one.
        keeps_base: Keep the last few versions that peers know, so that :meth:`merge_conflict` is given what
            both come from.
    """

    sync_profile: ClassVar[str] = ""
    model_name: ClassVar[str | None] = None
    fields_not_to_serialize: ClassVar[tuple[str, ...]] = ()
    model_dependencies: ClassVar[tuple[str, ...]] = ()
    keeps_base: ClassVar[bool] = False

    #: In :meth:`calculate_partition`, stands for the object's own source id.
    ID_PLACEHOLDER: ClassVar[str] = "${id}"

    # -- who it is -------------------------------------------------------------------------------

    def calculate_source_id(self) -> str | None:
        """Return what tells this object from all others of its model; None: any random id will do."""
        return None

    def calculate_partition(self) -> str:
        """Return where it belongs, a colon-separated path, which may hold :attr:`ID_PLACEHOLDER`.

        A partition is part of the item's id: an object that changes its partition becomes another item.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say its partition")

    @classmethod
    def sync_home(cls, root: Any) -> MutableMapping[str, Any]:
        """Return where objects of this model lie, by :meth:`sync_key`, in the database of this root."""
        raise NotImplementedError(f"{cls.__name__} does not say where its objects lie")

    def sync_key(self, item_id: str) -> str:
        """Return the key of this object in its home; the item's id unless the model says otherwise."""
        return item_id

    # -- what it says ----------------------------------------------------------------------------

    def serialize(self) -> dict[str, Any]:
        """Return what travels, JSON values by name: by default all attributes that may leave."""
        return {
            name: value
            for name, value in self.__dict__.items()
            if not name.startswith(("_p_", "_v_", "_")) and name not in self.fields_not_to_serialize
        }

    @classmethod
    def deserialize(cls, data: Mapping[str, Any], current: Any | None = None) -> Any:
        """Return an object that says ``data``: ``current``, changed, or a new one.

        By default, attributes that ``data`` does not name stay as they are.

        Raises:
            Exception: It cannot be: the item is deferred, with the stack trace.
        """
        found = cls.__new__(cls) if current is None else current
        for name, value in data.items():
            if name not in cls.fields_not_to_serialize:
                setattr(found, name, value)
        return found

    @classmethod
    def dependencies(cls, data: Mapping[str, Any]) -> Iterable[str]:
        """Return the ids of the items that have to be there before one that says ``data``."""
        return ()

    @classmethod
    def merge_conflict(
        cls, current: Mapping[str, Any], incoming: Mapping[str, Any], base: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any] | None:
        """Return data that unite two that were changed at once; None: the later one wins, as a whole.

        Both nodes may be asked, so it must be symmetric: the same when the two are exchanged.

        Args:
            current: What is here.
            incoming: What came.
            base: What both come from; None where that is not known: the model does not ask for it
                (:attr:`keeps_base`), both were made anew, or it lies too far back.
        """
        return None


class ModelRegistry:
    """The models of one profile.

    Args:
        models: Classes.

    Raises:
        UsageError: One is no :class:`SyncableModel` or has no name, two share a name, they are of several
            profiles, a dependency is none of them, or they depend on one another in a circle.
    """

    def __init__(self, models: Iterable[type[SyncableModel]] = ()) -> None:
        self._models: dict[str, type[SyncableModel]] = {}
        for model in models:
            self._add(model)
        profiles = {model.sync_profile for model in self._models.values()}
        if len(profiles) > 1:
            raise UsageError(f"these models are of several profiles: {', '.join(sorted(profiles))}")
        self.profile = profiles.pop() if profiles else ""
        self._depths = {name: self._depth(name, ()) for name in self._models}

    def _add(self, model: type[SyncableModel]) -> None:
        if not (isinstance(model, type) and issubclass(model, SyncableModel)):
            raise UsageError(f"{model!r} is no SyncableModel")
        if model.model_name is None:
            return
        if not model.model_name or not model.sync_profile:
            raise UsageError(f"{model.__name__} needs a model_name and a sync_profile")
        if model.model_name in self._models:
            raise UsageError(f"there are two models {model.model_name!r}")
        self._models[model.model_name] = model

    def _depth(self, name: str, above: tuple[str, ...]) -> int:
        if name in above:
            raise UsageError(f"models depend on one another in a circle: {' -> '.join((*above, name))}")
        if name not in self._models:
            raise UsageError(f"model {above[-1]!r} depends on {name!r}, which is not registered")
        depths = [self._depth(other, (*above, name)) for other in self._models[name].model_dependencies]
        return 1 + max(depths) if depths else 0

    def get(self, model_name: str) -> type[SyncableModel] | None:
        """Return the model of a name, or None."""
        return self._models.get(model_name)

    def depth(self, model_name: str) -> int:
        """Return how deep a model lies below those it depends on; 0 for an unknown one."""
        return self._depths.get(model_name, 0)

    def __iter__(self) -> Iterator[type[SyncableModel]]:
        return iter(self._models.values())

    def __len__(self) -> int:
        return len(self._models)

    def is_registered(self, obj: Any) -> bool:
        """Tell whether an object is of one of the models."""
        name = getattr(type(obj), "model_name", None)
        return isinstance(obj, SyncableModel) and name in self._models


def source_id_of(obj: SyncableModel) -> str | None:
    """Return an object's source id.

    Raises:
        ValueError: It is empty.
    """
    source_id = obj.calculate_source_id()
    if source_id is not None and not source_id:
        raise ValueError(f"{type(obj).__name__}: a source id is not empty")
    return source_id


def partition_of(obj: SyncableModel, source_id: str) -> str:
    """Return an object's partition.

    Raises:
        ValueError: It is none.
    """
    return check_partition(obj.calculate_partition().replace(obj.ID_PLACEHOLDER, source_id))
