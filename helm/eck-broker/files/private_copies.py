"""Copies mounted secrets to files that nobody but their owner can read.

Usage: private_copies.py TARGET [--login BOOTSTRAP USER] SOURCE...     each SOURCE folder becomes TARGET/<its name>

With --login the secrets are those of Strimzi: `connection/password` and `cluster-ca/ca.crt` become the file
`connection/connection.json` of this user, and `connection/ca.pem` beside it.
"""

import json
import os
import shutil
import sys
from pathlib import Path


def write(path: Path, data: bytes) -> None:
    """Makes a file that may be read by its owner only, from its first byte on."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "wb") as out:
        out.write(data)


os.umask(0o077)
target, words = Path(sys.argv[1]), sys.argv[2:]
login = words[1:3] if words[0] == "--login" else []
for source in map(Path, words[3:] if login else words):
    folder = target / source.name
    shutil.rmtree(folder, ignore_errors=True)  # an init container may run again in the same pod
    folder.mkdir(mode=0o700)
    for file in sorted(source.iterdir()):
        if file.is_file():  # the kubelet's own `..data` and what it points to are folders
            write(folder / file.name, file.read_bytes())
if login:
    connection, authority = target / "connection", target / "cluster-ca" / "ca.crt"
    password = connection / "password"
    document = {
        "bootstrap": login[0],
        "ca_file": "ca.pem",
        "username": login[1],
        "password": password.read_text(encoding="utf-8").rstrip("\n"),
        "mechanism": "SCRAM-SHA-512",
    }
    write(connection / "connection.json", json.dumps(document).encode())
    password.unlink()
    authority.rename(connection / "ca.pem")
    authority.parent.rmdir()
