"""The one place that turns settings into a folder of keys: in clear, or wrapped by a transit server."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from broker.errors import ConfigError
from broker.keys.files import FileKeys
from broker.keys.transit import Transit, TransitWrapping
from broker.keys.transit_login import KUBERNETES_JWT, AppRole, Kubernetes, Login, TokenFile
from broker.keys.transit_server import TransitServer
from broker.tls import client_context

NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
PATH: Final = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,255}$"


class TransitSettings(BaseSettings):
    """The transit server that wraps the keys, from the environment (`BROKER_TRANSIT_...`). Of no secret but by file.

    Attributes:
        address: `https://host:port`; without it keys lie in clear.
        key: name of the transit key; it has to be `derived`.
        mount: path of the transit engine.
        namespace: of Vault Enterprise or OpenBao.
        ca_file: who is trusted to sign the server's certificate; without it whom the operating system trusts.
        token_file: file with a token; read again when the token is refused.
        role_id_file, secret_id_file: the login of an AppRole.
        kubernetes_role, jwt_file: the login of a service account.
        auth_mount: path of the login's method; default `approle` or `kubernetes`.
        timeout_s: for each step of a request.
    """

    model_config = SettingsConfigDict(
        env_prefix="BROKER_TRANSIT_", env_ignore_empty=True, hide_input_in_errors=True, extra="ignore"
    )

    address: str | None = None
    key: str | None = Field(default=None, pattern=NAME)
    mount: str = Field(default="transit", pattern=PATH)
    namespace: str | None = Field(default=None, pattern=PATH)
    ca_file: Path | None = None
    token_file: Path | None = None
    role_id_file: Path | None = None
    secret_id_file: Path | None = None
    kubernetes_role: str | None = None
    jwt_file: Path = KUBERNETES_JWT
    auth_mount: str | None = Field(default=None, pattern=PATH)
    timeout_s: float = Field(default=5.0, gt=0, le=60)

    @classmethod
    def from_env(cls) -> TransitSettings:
        """What the environment says. An empty value counts as none.

        Raises:
            ConfigError: `transit.settings`.
        """
        try:
            return cls()
        except ValidationError as error:
            fields = ", ".join(f"BROKER_TRANSIT_{str(one['loc'][0]).upper()}" for one in error.errors())
            problem = ConfigError(
                f"{fields} can not be read; see docs/howto/keys-in-vault.md.", code="transit.settings"
            )
        raise problem

    def wrapping(self) -> TransitWrapping | None:
        """How key files are wrapped; None: not at all.

        Raises:
            ConfigError: `transit.settings`: something is missing or contradicts itself; `transit.ca`.
        """
        if self.address is None:
            if given := self.model_fields_set - {"timeout_s"}:
                raise ConfigError(
                    f"BROKER_TRANSIT_{min(given).upper()} is set, but not BROKER_TRANSIT_ADDRESS; keys in clear are "
                    "taken only where nothing of a transit server is set.",
                    code="transit.settings",
                )
            return None
        if self.key is None:
            raise ConfigError(
                "BROKER_TRANSIT_KEY has to name the transit key that wraps these keys.", code="transit.settings"
            )
        context = client_context(self.ca_file, "transit.ca")
        server = TransitServer(self.address, context, self.namespace, self.timeout_s)
        return TransitWrapping(Transit(server, self._login(), self.key, self.mount))

    def _login(self) -> Login:
        ways: list[Login] = []
        if self.token_file is not None:
            ways.append(TokenFile(self.token_file))
        if self.role_id_file is not None and self.secret_id_file is not None:
            ways.append(AppRole(self.role_id_file, self.secret_id_file, self.auth_mount or "approle"))
        if self.kubernetes_role is not None:
            ways.append(Kubernetes(self.kubernetes_role, self.jwt_file, self.auth_mount or "kubernetes"))
        if len(ways) != 1 or (self.role_id_file is None) != (self.secret_id_file is None):
            raise ConfigError(
                "Say in one way how to log in at the transit server: BROKER_TRANSIT_TOKEN_FILE, or "
                "BROKER_TRANSIT_ROLE_ID_FILE with BROKER_TRANSIT_SECRET_ID_FILE, or BROKER_TRANSIT_KUBERNETES_ROLE.",
                code="transit.settings",
            )
        return ways[0]


def open_keys(folder: Path | str) -> FileKeys:
    """The keys of a folder, unwrapped by the transit server if the environment names one.

    Nothing is read yet, and nobody asked.

    Raises:
        ConfigError: `transit.settings`, `transit.ca`.
    """
    wrapping = TransitSettings.from_env().wrapping()
    return FileKeys(folder) if wrapping is None else FileKeys(folder, wrapping)


def transit_wrapping() -> TransitWrapping:
    """The transit server that the environment names.

    Raises:
        ConfigError: `transit.settings`: it names none, or not enough of it.
    """
    wrapping = TransitSettings.from_env().wrapping()
    if wrapping is None:
        raise ConfigError(
            "No transit server is set: set BROKER_TRANSIT_ADDRESS and more, see docs/howto/keys-in-vault.md.",
            code="transit.settings",
        )
    return wrapping
