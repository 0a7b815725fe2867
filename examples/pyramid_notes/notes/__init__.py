"""A notebook: folders with notes in them, kept in ZODB and edited in a browser.

An ordinary Pyramid application. Nothing of it knows of livesync but ``livesync_host.py``, which no other
module imports, and some lines of ``development.ini``.
"""

from pyramid.config import Configurator
from pyramid.csrf import CookieCSRFStoragePolicy
from pyramid_zodbconn import get_connection

from .models import notebook_of


def root_factory(request):
    """The notebook in the request's connection; it is made when it is first asked for."""
    return notebook_of(get_connection(request).root())


def configured(settings):
    """Return the configuration of the application."""
    config = Configurator(settings=settings, root_factory=root_factory)
    config.include("pyramid_jinja2")
    config.include("pyramid_retry")
    config.include("pyramid_tm")
    config.include("pyramid_zodbconn")
    config.set_csrf_storage_policy(CookieCSRFStoragePolicy())
    config.set_default_csrf_options(require_csrf=True)
    config.scan(".views")
    return config


def main(global_config, **settings):
    """Return the application."""
    return configured(settings).make_wsgi_app()
