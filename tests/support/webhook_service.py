"""A receiver of signed CloudEvents: a real one, if small, that checks everything it can."""

from __future__ import annotations

import json
import re
import threading
import unicodedata
from base64 import b64encode
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from standardwebhooks import Webhook, WebhookVerificationError
from support.destination import Destination
from support.wsgi_service import Service
from werkzeug.wrappers import Request, Response

from livesync.destinations.webhook import WebhookAgent

SECRET = "whsec_" + b64encode(bytes(range(32))).decode()
OLD_SECRET = "whsec_" + b64encode(bytes(range(40, 64))).decode()


def is_string_of_cloudevents(text: str) -> bool:
    """Whether ``text`` holds neither control characters nor noncharacters nor surrogates."""
    return not any(
        unicodedata.category(char) in ("Cc", "Cs")
        or "\ufdd0" <= char <= "\ufdef"
        or ord(char) & 0xFFFE == 0xFFFE
        for char in text
    )


def read_event(event: dict[str, Any]) -> CloudEvent:
    """Read one event with the CloudEvents library, and hold it to the rules that this leaves alone."""
    for name, value in event.items():
        assert re.fullmatch("[a-z0-9]{1,20}", name)
        if name != "data":
            assert isinstance(value, str)
            assert value
            assert is_string_of_cloudevents(value)
    return JSONFormat().read(CloudEvent, json.dumps(event).encode())


class WebhookReceiver:
    """Verifies signatures, and applies events by the rule of positions.

    Attributes:
        documents: What lives, id -> the document's JSON as it came.
        positions: The position of each object, living or deleted.
        events: All events, as the CloudEvents library read them.
        items: Whether the answer judges each event.
    """

    def __init__(self, secret: str = SECRET) -> None:
        self.webhook = Webhook(secret)
        self.documents: dict[str, bytes] = {}
        self.positions: dict[str, int] = {}
        self.events: list[CloudEvent] = []
        self.items = True
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        return self._respond(Request(environ))(environ, start_response)

    def _respond(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status=204, headers={"Allow": "POST"})
        if request.method != "POST":
            return Response(status=405)
        body = request.get_data()
        try:
            self.webhook.verify(body, dict(request.headers), json_parse=False)
        except WebhookVerificationError as exc:
            return Response(str(exc), 401)
        if request.mimetype == "application/cloudevents-batch+json":
            events = msgspec.json.decode(body, type=list[dict[str, msgspec.Raw]])
        elif request.mimetype == "application/cloudevents+json":
            events = [msgspec.json.decode(body, type=dict[str, msgspec.Raw])]
        else:
            return Response(status=415)
        with self._lock:
            items = [self._apply(event) for event in events]
        if not self.items:
            return Response(status=204)
        return Response(json.dumps({"items": items}), 200, content_type="application/json")

    def _apply(self, raw: dict[str, msgspec.Raw]) -> dict[str, Any]:
        event = read_event({name: msgspec.json.decode(value) for name, value in raw.items()})
        self.events.append(event)
        object_id, position = unquote(event.get_subject()), int(event.get_extension("position"))
        if self.positions.get(object_id, -1) > position:
            return {"id": object_id, "status": 409}
        self.positions[object_id] = position
        if event.get_type().endswith(".delete"):
            assert "data" not in raw
            self.documents.pop(object_id, None)
        else:
            assert event.get_datacontenttype() == "application/json"
            self.documents[object_id] = bytes(raw["data"])
        return {"id": object_id, "status": 200}


class WebhookDestination(Destination):
    takes_back = False
    mode = "batch"

    def __init__(self, directory: Path, receiver: Any) -> None:
        self.receiver = WebhookReceiver()
        self.service = Service(self.receiver)
        self.secret = directory / "secret"
        self.secret.write_text(SECRET)

    def agent(self, agent_id: str = "a", **options: Any) -> WebhookAgent:
        values = {"url": self.service.url, "secret": f"file:{self.secret}", "mode": self.mode}
        return WebhookAgent(agent_id, **(values | options))

    def documents(self) -> dict[str, bytes]:
        return self.receiver.documents

    def tombstones(self) -> dict[str, int]:
        return {
            object_id: position
            for object_id, position in self.receiver.positions.items()
            if object_id not in self.receiver.documents
        }


class SingleWebhookDestination(WebhookDestination):
    mode = "single"
