"""Stores of both kinds, and providers with a clock that stands still unless it is told otherwise."""

from types import SimpleNamespace

import pytest
from support.sync_world import STORES

from livesync.replication import BaseSyncProvider, Operation, SyncLock, SyncOrchestrator


@pytest.fixture(params=sorted(STORES))
def new_store(request):
    """A function that makes a new store of one kind, empty or from an image."""
    made = []

    def make(image=None):
        store = STORES[request.param](image)
        made.append(store)
        return store

    yield make
    for store in made:
        if hasattr(store, "db"):
            store.db.close()


class Clock:
    """Epoch seconds that stand still."""

    def __init__(self, now=1_700_000_000.0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def put(provider, item_id, payload, partition="F1", entity="thing"):
    """Write an item."""
    return provider.commit_item_change(Operation.UPDATE, entity, item_id, payload, partition)


def remove(provider, item_id, partition="F1", hard=False):
    """Delete an item."""
    return provider.commit_item_change(Operation.DELETE, "thing", item_id, None, partition, hard)


def sync(one, other, **options):
    """Sync both ways and return the two sessions."""
    return SyncOrchestrator(SyncLock(), [one, other], 3600).run(**options)


def contents(provider):
    """Return what the live items say."""
    return {state.item_id: state.payload for state in provider.items()}


@pytest.fixture(scope="session")
def tools():
    return SimpleNamespace(put=put, remove=remove, sync=sync, contents=contents, Clock=Clock)


@pytest.fixture
def new_provider(new_store, clock):
    """A function that makes a provider with a store of one kind."""

    def make(name, image=None, **options):
        options.setdefault("clock", clock)
        return BaseSyncProvider(None if image else name, new_store(image), **options)

    return make
