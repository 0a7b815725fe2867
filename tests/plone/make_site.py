"""Run by Plone's Python: make Plone sites in an instance, and a manager ``admin``/``secret``."""

import sys

import transaction
import Zope2
from AccessControl.SecurityManagement import newSecurityManager
from Products.CMFPlone.factory import addPloneSite
from Testing.makerequest import makerequest
from Zope2.Startup.run import configure_wsgi

PROFILES = [
    "plone.app.contenttypes:default",
    "plone.restapi:default",
    "plonetheme.barceloneta:default",
    "livesync.plugins:default",
]


def main(zope_conf, *names):
    configure_wsgi(zope_conf)
    app = makerequest(Zope2.app())
    app.acl_users.userFolderAddUser("admin", "secret", ["Manager"], [])
    newSecurityManager(None, app.acl_users.getUser("admin").__of__(app.acl_users))
    for name in names:
        site = addPloneSite(app, name, title=name, extension_ids=PROFILES)
        site.portal_workflow.setDefaultChain("simple_publication_workflow")
    transaction.commit()
    app._p_jar.close()
    Zope2.DB.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
