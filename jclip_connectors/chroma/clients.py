"""What the flows of a collection call, and chromadb's clients as a URL makes them.

chromadb's client of a server waits for answers without end, and leaves its connections open when it is closed. Neither
has an option, so these classes and functions reach for what is inside it (read in the client, 1.5.9).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from chromadb.api.client import Client
from chromadb.auth import UserIdentity
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT, Settings
from overrides import override

_HTTP = "chromadb.api.fastapi.FastAPI"


@dataclass(frozen=True, kw_only=True)
class Collections:
    """Two collections of one client, blocking or asyncio.

    Attributes:
        records: `chromadb.Collection` or its asyncio twin.
        tiles: the same for the tiles; `None` in a collection without tiles.
    """

    records: Any
    tiles: Any


class ServerClient(Client):
    """A client of a server, as `chromadb.HttpClient` makes it, with a timeout; its connections close with it."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        secure: bool,
        headers: dict[str, str],
        timeout_s: float | None,
        tenant: str = DEFAULT_TENANT,
        database: str = DEFAULT_DATABASE,
    ) -> None:
        """Connect, and ask whether the database is there.

        Args:
            host: the server.
            port: its port.
            secure: use TLS.
            headers: of every request.
            timeout_s: how long each answer is waited for, in seconds; `None` waits without end.
            tenant: the tenant.
            database: the database of the tenant.
        """
        self._timeout = httpx.Timeout(timeout_s)
        self._sessions: list[httpx.Client] = []
        settings = _settings(
            chroma_api_impl=_HTTP,
            chroma_server_host=host,
            chroma_server_http_port=port,
            chroma_server_ssl_enabled=secure,
            chroma_server_headers=headers,
        )
        try:
            super().__init__(tenant=tenant, database=database, settings=settings)
        except BaseException:
            self._close_sessions()
            raise

    # chromadb's own methods make a ValueError of every failure.

    @override
    def get_user_identity(self) -> UserIdentity:
        """Chromadb's first request, with the timeout."""
        self._take_over(self)
        return self._server.get_user_identity()

    def _validate_tenant_database(self, tenant: str, database: str) -> None:
        self._take_over(self._admin_client)
        self._admin_client.get_tenant(name=tenant)
        self._admin_client.get_database(name=database, tenant=tenant)

    def close(self) -> None:
        """Close the client and its connections."""
        super().close()
        self._close_sessions()

    def _take_over(self, client: Any) -> None:  # noqa: ANN401 (chromadb's)
        session: httpx.Client = client._server._session
        session.timeout = self._timeout
        self._sessions.append(session)

    def _close_sessions(self) -> None:
        for session in self._sessions:
            session.close()


def folder_client(folder: Path) -> Client:
    """A client of a folder, as `chromadb.PersistentClient` makes it; the folder is made if it does not exist."""
    return Client(settings=_settings(is_persistent=True, persist_directory=str(folder)))


def _settings(**values: Any) -> Settings:  # noqa: ANN401 (of many types)
    """New settings, as a client changes its own; nothing is reported to anybody."""
    return Settings(anonymized_telemetry=False, **values)
