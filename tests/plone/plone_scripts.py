"""Imported by the tests' Zope: a page that runs what is posted to it, as scripts of an application do."""

import json

from plone.protect.interfaces import IDisableCSRFProtection
from Products.Five.browser import BrowserView
from zope.component.hooks import getSite
from zope.interface import alsoProvides


class RunScript(BrowserView):
    def __call__(self):
        alsoProvides(self.request, IDisableCSRFProtection)
        names = {"context": self.context, "site": getSite(), "request": self.request, "result": None}
        exec(self.request.form["code"], names)
        self.request.response.setHeader("Content-Type", "application/json")
        return json.dumps(names["result"])
