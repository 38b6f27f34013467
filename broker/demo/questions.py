"""The demo's query service: what boards and parties ask of the audit, with certificates of its own authority."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from broker.app.provision import add_login
from broker.demo.auditlog import LOGS
from broker.demo.stage import Stage
from broker.kafka import access
from broker.kafka.admin import Admin
from broker.kafka.machine import free_ports
from broker.kafka.pki import DevelopmentCA
from broker.keys import FileKeys

CERTIFICATES: Final = "audit-ca"
STORE: Final = "audit.db"
ADDRESS: Final = "audit-service.url"
LOOK_S: Final = 2
VAULT_SECRETS: Final = ("vault-mac", "vault-records", "school-keys")


def start(scene: Stage) -> str:
    """Start indexer and service as processes of their own, each with the login and the secrets that it needs.

    Returns:
        The service's address, once it answers. It is also in the file `audit-service.url` of the demo's home.

    Raises:
        BrokerError: `demo.process`: one of them does not come up.
    """
    root = scene.kafka.admin_connection()
    home, authority = scene.home, DevelopmentCA(scene.home / CERTIFICATES)
    authority.prepare()
    server = authority.issue_broker(1)  # its key and certificate in one file
    for who in (*scene.registry.boards, *scene.registry.parties):
        authority.issue_party(who)
    login = home / "connections" / f"{access.AUDIT_SERVICE}.json"
    add_login(Admin(root), root, access.AUDIT_SERVICE, login)
    schools = _some_of(scene.keys, home / "indexer-keys", ("school-keys",))
    keys = _some_of(scene.keys, home / "audit-service-keys", VAULT_SECRETS)
    port = free_ports(3)
    scene.start_process("indexer", port + 1, [
        "auditlog", "index", "--logs", home / LOGS, "--store", home / STORE, "--every", LOOK_S, "--http", port + 1,
        "--connection", home / "connections" / f"{access.AUDITOR}.json", "--keys", schools,
    ])  # fmt: skip
    scene.start_process("audit-service", port + 2, [
        "audit", "serve", "--store", home / STORE, "--logs", home / LOGS, "--connection", login, "--keys", keys,
        "--state", home / "state-audit-service", "--cert", server, "--cert-key", server,
        "--client-ca", authority.ca_file, "--listen", f"127.0.0.1:{port}", "--http", f"127.0.0.1:{port + 2}",
    ])  # fmt: skip
    address = f"https://localhost:{port}"
    (home / ADDRESS).write_text(f"{address}\n", "ascii")
    return address


def _some_of(keys: FileKeys, folder: Path, names: tuple[str, ...]) -> Path:
    """A folder with copies of these secrets, and no other."""
    folder.mkdir(mode=0o700)
    for name in names:
        shutil.copy2(keys.folder / f"{name}.secret", folder)  # with its rights
    return folder
