"""The grammar of ``livesync version``."""

from __future__ import annotations

import argparse

from .grammar import Commands
from .peer_client_parser import add_transport
from .values import count, named_rule, span

_REF = (
    "a branch (its newest version), BRANCH:NUMBER, a NUMBER of the current branch, a tag, six digits or more"
    " of an id, or HEAD; with ~N the N-th before it"
)


def add_version_commands(commands: Commands) -> None:
    """Add all commands of the group to ``commands``."""
    _add_making(commands)
    _add_looking(commands)
    _add_going(commands)
    _add_joining(commands)
    _add_keeping(commands)


def _named(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument(
        "-c",
        "--collection",
        metavar="NAME",
        default="documents",
        help="which collection (default: documents)",
    )
    return parser


def _said(parser: argparse.ArgumentParser, default: str = "") -> None:
    why = f"why (default: {default})" if default else "why"
    parser.add_argument("-m", "--message", metavar="TEXT", help=why)
    parser.add_argument("--author", metavar="NAME", help="who (default: who made the changes, as recorded)")


def _of(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--of",
        action="append",
        type=named_rule,
        metavar="NAME[=RULE]",
        help="a collection that the history is of, one of several; repeatable; of an application's documents"
        " with what says which they are: FIELD=VALUE of a document, or PREFIX* of its id",
    )


def _add_making(commands: Commands) -> None:
    init = commands.add(
        "init",
        "version_making:init",
        "make the first version",
        "Make the first version, 0 of the branch main, of all documents that the application has. Without an"
        " application (--host) they are those of the mapping NAME in the database's root.",
    )
    _said(_named(init))
    _of(init)
    collections = commands.add(
        "collections",
        "version_making:collections",
        "list the histories there are",
        "List the histories of the database, and of which collections each is.",
    )
    _named(collections).add_argument(
        "--add",
        type=named_rule,
        metavar="NAME[=RULE]",
        help="let a history of several collections follow this one, too; as --of of `livesync version init`",
    )
    register = commands.add(
        "register",
        "version_making:register",
        "make a version of what has changed",
        "Make a version of the documents that have changed since the current one, in one transaction.",
    )
    _said(_named(register), default="what was noted with the changes, as recorded")
    register.add_argument("-b", "--branch", metavar="NAME", help="a new branch's, where HEAD is detached")
    close = commands.add(
        "close",
        "version_making:close",
        "make an open version one as any other",
        "Write the record of a branch's oldest open version, which deltas were added to one by one: then it"
        " is a version as any other. Where the documents are at the end of the branch, they follow.",
    )
    _said(_named(close))
    close.add_argument("branch", nargs="?", metavar="BRANCH", help="which branch (default: the current one)")
    status = commands.add(
        "status",
        "version_looking:status",
        "show where the documents stand",
        "Show which version the documents come from, and which of them have changed since.",
    )
    _named(status)
    stash = commands.add(
        "stash",
        "version_making:stash",
        "put changes aside",
        "Put what has changed aside and discard it; `apply` brings it back, also on another version.",
    )
    _named(stash).add_argument(
        "what", nargs="?", choices=("save", "apply", "discard"), default="save", help="(default: save)"
    )
    stash.add_argument("--overwrite", action="store_true", help="throw away what is stashed already")
    discard = commands.add(
        "discard",
        "version_making:discard",
        "discard what has changed",
        "Make the documents what they are at the current version; what was changed since is lost.",
    )
    _named(discard).add_argument("--yes", action="store_true", help="do not ask")


def _add_looking(commands: Commands) -> None:
    log = commands.add(
        "log",
        "version_looking:log",
        "list versions, newest first",
        "List the versions from the current one, or another, to the first: who, when and why.",
    )
    _named(log).add_argument("ref", nargs="?", default="HEAD", metavar="VERSION", help=_REF)
    log.add_argument("--graph", action="store_true", help="draw all branches and merges, a line each")
    log.add_argument("--limit", "-n", type=count, metavar="N", help="so many at most")
    show = commands.add(
        "show",
        "version_looking:show",
        "show what a version changed, or a document as it was",
        "Show a version and what it changed; with a document's id that document as it was then.",
    )
    _named(show).add_argument("ref", nargs="?", default="HEAD", metavar="VERSION", help=_REF)
    show.add_argument("document", nargs="?", metavar="DOCUMENT", help="a document's id")
    diff = commands.add(
        "diff",
        "version_looking:diff",
        "show what differs between versions",
        "Show what differs between a version (by default the current one) and the documents as they are now,"
        " or between two versions.",
    )
    _named(diff).add_argument("start", nargs="?", default="HEAD", metavar="VERSION", help=_REF)
    diff.add_argument("end", nargs="?", metavar="VERSION", help="likewise; none: the documents as they are")
    diff.add_argument("--names", action="store_true", help="name the documents only")
    history = commands.add(
        "history",
        "version_looking:history",
        "list the versions that changed a document",
        "List the versions that changed one document, newest first.",
    )
    _named(history).add_argument("document", metavar="DOCUMENT", help="a document's id")
    history.add_argument("--at", default="HEAD", metavar="VERSION", help=_REF)
    history.add_argument("--limit", "-n", type=count, metavar="N", help="so many at most")


def _add_going(commands: Commands) -> None:
    checkout = commands.add(
        "checkout",
        "version_making:checkout",
        "make the documents what they were",
        "Make the application's documents what they were at a version. Changes have to be registered, stashed"
        " or discarded before.",
    )
    _named(checkout).add_argument("ref", metavar="VERSION", help=_REF)
    branch = commands.add(
        "branch",
        "version_making:branch",
        "list branches, or make, rename or delete one",
        "List the branches; with a name, make a branch at the current version and go to it, changes and all.",
    )
    _named(branch).add_argument("name", nargs="?", metavar="NAME", help="a new branch's name")
    way = branch.add_mutually_exclusive_group()
    way.add_argument("--rename", metavar="OLD", help="call this branch NAME instead")
    way.add_argument(
        "--delete", action="store_true", help="forget the branch; versions that others lead to stay"
    )
    branch.add_argument(
        "--force", action="store_true", help="delete it although nothing else leads to its newest version"
    )
    tag = commands.add(
        "tag",
        "version_making:tag",
        "list tags, or give a version a name",
        "List the tags; with a name, give it to a version, with which it stays.",
    )
    _named(tag).add_argument("name", nargs="?", metavar="NAME", help="the tag")
    tag.add_argument("ref", nargs="?", default="HEAD", metavar="VERSION", help=_REF)
    tag.add_argument("--delete", action="store_true", help="take the tag away")


def _add_joining(commands: Commands) -> None:
    merge = commands.add(
        "merge",
        "version_joining:merge",
        "merge another branch into the current one",
        "Merge a version into the current branch, as a version with two parents. Where both sides disagree"
        " nothing is written, and the conflicts wait: see `livesync version conflicts`.",
    )
    _said(_named(merge))
    merge.add_argument("ref", metavar="VERSION", help=_REF)
    for name, does in (
        ("cherry-pick", "make what a version changed here, too"),
        ("revert", "take back what a version changed"),
    ):
        parser = commands.add(
            name,
            f"version_joining:{name.replace('-', '_')}",
            does,
            f"{does[0].upper()}{does[1:]}, as a new version of the current branch.",
        )
        _named(parser).add_argument("ref", metavar="VERSION", help=_REF)
        parser.add_argument("--author", metavar="NAME", help="who")
    conflicts = commands.add(
        "conflicts",
        "version_joining:conflicts",
        "show or resolve what a merge disagrees on",
        "Show what both sides of a merge have changed, and not to the same; or decide it. Once nothing is"
        " left, the merge's version is made.",
    )
    _named(conflicts).add_argument(
        "--take", choices=("ours", "theirs", "base"), help="decide for this side, all or what is named"
    )
    conflicts.add_argument("--value", metavar="JSON", help="decide for this value")
    conflicts.add_argument("--document", metavar="ID", help="of this document only")
    conflicts.add_argument("--path", metavar="PATH", help="only here, as the list shows it")
    conflicts.add_argument("--abort", action="store_true", help="throw the merge away")
    _add_exchanging(commands)


def _add_exchanging(commands: Commands) -> None:
    push = commands.add(
        "push",
        "version_exchanging:push",
        "bring branches and tags to another node",
        "Bring branches and tags to another node or database, with all the versions that they need. Its"
        " branches are only ever gone on with: pull first where it has gone on. All of a push is taken, or"
        " nothing. What was cut goes on.",
    )
    pull = commands.add(
        "pull",
        "version_exchanging:pull",
        "fetch branches and tags from another node",
        "Fetch branches and tags from another node or database, with all the versions that they need. Where"
        " both have gone on, the other one's versions come into place; yours stay on a branch"
        " __rebranched_BRANCH_N and are merged. What was cut goes on.",
    )
    for parser in (push, pull):
        _named(parser).add_argument(
            "remote",
            metavar="PEER_OR_URL",
            help="a peer that `livesync peer list` shows; the address of one, https://…; or another database"
            " that this process can open, as a zodburi",
        )
        which = parser.add_mutually_exclusive_group()
        which.add_argument("-b", "--branch", metavar="NAME", help="which branch (default: the current one)")
        which.add_argument(
            "--all", action="store_true", help="all branches but those that a pull has put aside"
        )
        parser.add_argument("--tags", action="store_true", help="all tags, too")
        group = parser.add_argument_group("for an address")
        group.add_argument(
            "--profile", metavar="NAME", help="the profile of the certificates (default: the only one)"
        )
        add_transport(group)
    push.add_argument("--no-checkout", action="store_true", help="leave the documents there as they are")


def _add_keeping(commands: Commands) -> None:
    blame = commands.add(
        "blame",
        "version_keeping:blame",
        "show who made what of a document",
        "Show for each value of a document which version made it so, who, and when.",
    )
    _named(blame).add_argument("document", metavar="DOCUMENT", help="a document's id")
    blame.add_argument("--at", default="HEAD", metavar="VERSION", help=_REF)
    fsck = commands.add(
        "fsck",
        "version_keeping:fsck",
        "look the versions over",
        "Read everything that is kept, compare all hashes, links and what lies twice, and name what is wrong;"
        " exit code 1 if anything is.",
    )
    _named(fsck)
    gc = commands.add(
        "gc",
        "version_keeping:gc",
        "remove versions that nothing leads to",
        "Remove versions that no branch or tag leads to any more, as a pull that was aborted leaves them.",
    )
    _named(gc).add_argument(
        "--grace",
        type=span,
        metavar="AGE",
        help="keep what is younger than this, 90s, 5m, 1h or 2d; 0: keep nothing (default: 14d)",
    )
    prune = commands.add(
        "prune",
        "version_keeping:prune",
        "take away what old versions held",
        "Take away what versions held that WORDS do not keep; their records stay, with ids that still verify,"
        " and what is kept reads as before. Always kept are the first version, the newest of each branch,"
        " HEAD, tags, where branches part, what was merged, and what remotes were last seen to have.",
    )
    _named(prune).add_argument(
        "--keep",
        action="append",
        required=True,
        metavar="WORDS",
        help="what to keep on each branch: a number of versions, an age as 30d (h, d, w, y), hourly, daily,"
        " weekly, monthly, yearly, or one of these with :N for the last N; several with commas; repeatable",
    )
    prune.add_argument("--dry-run", action="store_true", help="list what would be pruned, and change nothing")
    squash = commands.add(
        "squash",
        "version_keeping:squash",
        "make a run of versions one",
        "Make a run of versions one, and forget the others; what comes after gets new ids. A run that a"
        " remote has is refused, and so is one that a branch, a tag or another version needs the inside of.",
    )
    _said(_named(squash))
    squash.add_argument("run", nargs="?", metavar="FROM..TO", help="the oldest and the newest, both included")
    squash.add_argument("--last", type=count, metavar="N", help="the last N up to the current one")
    squash.add_argument(
        "--force", action="store_true", help="although a remote has them: it will have other versions"
    )
    export = commands.add(
        "export",
        "version_keeping:export",
        "write versions into a file",
        "Write all versions of the branches, what they need, and tags into a file, to be carried elsewhere.",
    )
    _named(export).add_argument("file", metavar="FILE", help="a new file")
    export.add_argument(
        "-b",
        "--branch",
        action="append",
        metavar="NAME",
        help="only this branch; repeatable (default: all but those that a pull has put aside)",
    )
    import_ = commands.add(
        "import",
        "version_keeping:import_",
        "pull what a file holds",
        "Pull all branches and tags of a file that `livesync version export` wrote, as of another database.",
    )
    _named(import_).add_argument("file", metavar="FILE", help="the file")
    _of(import_)
