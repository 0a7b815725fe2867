"""The server that peers talk to: a Pyramid application of its own, apart from the people's pages.

:func:`livesync.peerserver.app.make_app` makes it; :func:`livesync.peerserver.app.includeme` mounts it in a
host's.
"""
