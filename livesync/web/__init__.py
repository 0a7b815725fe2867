"""The web application: pages, a JSON API, metrics and health, for people and for monitoring.

``app.py`` makes it, on its own or within an application's own Pyramid. ``operations`` is all that it can do,
as functions of a :class:`~livesync.web.context.WebContext`; pages and API are views of these and hold no
rule of their own.
"""
