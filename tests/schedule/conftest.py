"""A database with things and agents, and a runner that is stopped in the end."""

import pytest
from support.runners import SERVICES, Place

from livesync.schedule.scheduler import ScheduledRunner
from livesync.schedule.thread import Runner


@pytest.fixture(autouse=True)
def no_services_left():
    SERVICES.clear()
    yield
    SERVICES.clear()


@pytest.fixture
def place(file_db):
    return Place(file_db)


@pytest.fixture(params=[Runner, ScheduledRunner], ids=["alone", "apscheduler"])
def kind(request):
    """Both kinds of runner do the same."""
    return request.param


@pytest.fixture
def runner(place, kind):
    """Start a runner on the place's database: ``runner(site=…)``."""
    started = []

    def start(db=None, **settings):
        started.append(kind(db or place.db, place.host, **settings))
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        assert one.stop(30)
