"""A Celery application that there is already gets livesync's tasks too."""

from functools import partial

from celery import Celery

from livesync.database import open_database
from livesync.host import load_host
from livesync.schedule.celery import add_tasks

app = Celery("myapp", broker="redis://localhost:6379/0")
add_tasks(app, partial(open_database, "zeo://localhost:9100"), load_host("demo"), site="production")
