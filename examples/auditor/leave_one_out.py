"""Be the broker that lies: leave one leaf out of its log, and sign what is left with the log's own key.

    python examples/auditor/leave_one_out.py LOGS OUT EVENT RECEIVER --keys FOLDER

Makes in OUT the logs of the folder LOGS, without the leaf that says that EVENT was delivered to RECEIVER. Its log has
right tiles and a valid signature: no tool that looks at this log alone can object. With --make-counts-fit the window
that the leaf belongs to is corrected too, as somebody would who knows how it is checked. For docs/tutorial-auditor.md,
and for auditors who want to see what they would see.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from broker.audit.leaf import canonical
from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.directory import LogDirectory
from broker.audit.log.note import split_note
from broker.audit.log.tiles import TileBuilder, TileReader
from broker.auditlog.book import LogName, SigningKeys
from broker.keys import FileKeys


def main() -> int:
    """Do it; 1 if there is no such leaf."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("event")
    parser.add_argument("receiver")
    parser.add_argument("--keys", type=Path, required=True, help="the folder with the key that signs the logs")
    parser.add_argument("--make-counts-fit", action="store_true", help="correct the window's counts too")
    given = parser.parse_args()
    for folder in sorted(path.parent for path in given.logs.glob("p*/checkpoint")):
        shown, leaves = _read(LogDirectory(folder))
        hidden = next((n for n, leaf in enumerate(leaves) if _is_of(leaf, given.event, given.receiver)), None)
        if hidden is None:
            continue
        left = leaves[:hidden] + leaves[hidden + 1 :]
        if given.make_counts_fit:
            left = list(_fitting(left, hidden, json.loads(leaves[hidden])["x"]))
        base, log, epoch = shown.origin.rsplit("/", 2)
        shutil.copytree(given.logs, given.out, ignore=shutil.ignore_patterns(folder.name, ".*"))
        _write(left, LogName(base, log, int(epoch)), SigningKeys(FileKeys(given.keys)), given.out / folder.name)
        sys.stdout.write(f"leaf {hidden} of {shown.origin} is left out; {len(left)} leaves are signed\n")
        return 0
    sys.stderr.write("no leaf says that this event was delivered to this receiver\n")
    return 1


def _read(folder: LogDirectory) -> tuple[Checkpoint, list[bytes]]:
    shown = Checkpoint.parse(split_note(folder.checkpoint() or b"")[0])
    return shown, list(TileReader(folder.read, shown.size).entries(0, shown.size))


def _is_of(leaf: bytes, event: str, receiver: str) -> bool:
    x = json.loads(leaf).get("x", {})
    return (x.get("event"), x.get("receiver"), x.get("decision")) == (event, receiver, "delivered")


def _fitting(leaves: Iterable[bytes], hidden: int, x: dict[str, Any]) -> Iterator[bytes]:
    """The same leaves, and in the lane's next window one delivery less."""
    place = (x["in"]["topic"], x["in"]["partition"])
    due = True
    for index, leaf in enumerate(leaves):
        window = json.loads(leaf).get("window")
        if due and window and index >= hidden and (window["input"]["topic"], window["input"]["partition"]) == place:
            window["leaves"] -= 1
            for count in window["counts"]:
                if (count["decision"], count["party"], count["process"]) == ("delivered", x["receiver"], x["process"]):
                    count["n"] -= 1
            window["counts"] = [count for count in window["counts"] if count["n"]]
            due = False
            yield canonical({"v": 1, "window": window})
        else:
            yield leaf


def _write(leaves: list[bytes], name: LogName, keys: SigningKeys, path: Path) -> None:
    folder, grown = LogDirectory(path), TileBuilder().append(leaves)
    folder.write_immutable(grown.files)
    folder.publish(keys.sign(name, Checkpoint(name.origin, grown.size, grown.root)))
    folder.show_key(*keys.vkeys(name))


if __name__ == "__main__":
    sys.exit(main())
