"""``livesync agent simulate``: what a run would send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .exitcodes import ExitCode
from .output import encoded, printable
from .session import Session

if TYPE_CHECKING:
    from ..delivery.record import Record


def simulate(session: Session) -> int:
    """Print the records that a run of one agent would send now; nothing is sent and nothing changes."""
    from ..delivery.simulate import simulate as simulated

    agent_id = session.args.agent
    host = session.settings.load_host()
    number = 0
    with session.reading() as manager, session.out.json_list("records", {"agent": agent_id}) as add:
        for record in simulated(manager, agent_id, host):
            number += 1
            values = _values(record, session.args.documents)
            add(values)
            words = ",".join(values["actions"])
            session.out.line(printable(f"{values['op']} {values['id']} ({words}) {values['position']}"))
            if values.get("document") is not None:
                session.out.line(f"    {encoded(values['document'])}")
    if not number:
        session.out.line("nothing would be sent")
    return ExitCode.OK


def _values(record: Record, with_document: bool) -> dict[str, Any]:
    values: dict[str, Any] = {
        "op": record.op.value,
        "id": record.object_id,
        "actions": sorted(record.actions),
        "position": record.position,
    }
    if with_document:
        values["document"] = None if record.document is None else _plain(record.document)
    return values


def _plain(document: dict[str, Any]) -> Any:
    """Return ``document`` as a service gets it: dates, bytes and the like are text."""
    import msgspec

    from ..delivery.record import encode_document

    return msgspec.json.decode(encode_document(document))
