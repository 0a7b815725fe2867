"""Hosts of one site, for the reader."""

from livesync.plugins.plone_host import PloneHost


def other():
    return PloneHost(["/other/"])


def missing():
    return PloneHost(["nowhere"])
