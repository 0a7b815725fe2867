"""Imported by the tests' Zope: a page that runs what is posted to it, as scripts do, and a content type."""

import json

from plone.autoform import directives
from plone.protect.interfaces import IDisableCSRFProtection
from plone.supermodel import model
from Products.Five.browser import BrowserView
from zope import schema
from zope.component.hooks import getSite
from zope.interface import alsoProvides


class RunScript(BrowserView):
    def __call__(self):
        alsoProvides(self.request, IDisableCSRFProtection)
        names = {"context": self.context, "site": getSite(), "request": self.request, "result": None}
        exec(self.request.form["code"], names)
        self.request.response.setHeader("Content-Type", "application/json")
        return json.dumps(names["result"])


class IMemo(model.Schema):
    word = schema.TextLine(title="Word")
    directives.read_permission(secret="cmf.ManagePortal")
    secret = schema.TextLine(title="Secret")
    due = schema.Date(title="Due")
    price = schema.Decimal(title="Price")
    numbers = schema.List(title="Numbers", value_type=schema.Int())
    span = schema.Timedelta(title="Span")
