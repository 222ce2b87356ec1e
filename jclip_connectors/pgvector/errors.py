"""Translation of psycopg's errors. psycopg itself never retries.

Messages repeat only the first line of the server's message: its details can quote a row.
"""

import psycopg
from psycopg import errors

from jclip_connectors.errors import ConnectorError, StoreRequestError, StoreUnavailableError
from jclip_connectors.store_kit.patience import ClientGaveUpError, ConnectionLostError

# The classes of SQLSTATE for which a retry may help: connection, deadlock or serialization failure, resources (too many
# connections), operator intervention (a server that starts or stops); and a lock that is not available.
_WORTH_ANOTHER_TRY = ("08", "40", "53", "57", "55P03")
# Texts of a refused connection, which has no SQLSTATE.
_CREDENTIALS = ("password", "authentication failed", "pg_hba.conf", "role ")
_ENDED = ("the connection is closed", "the connection is lost")
_NO_DATABASE = 'database "'
_SHOWN_CHARS = 500


def translate(error: Exception) -> ConnectorError | None:
    """Translate an error of psycopg; `None` for any other error."""
    match error:
        case errors.QueryCanceled() | errors.LockNotAvailable():
            return StoreUnavailableError(f"PostgreSQL did not answer in time: {_told(error)}")
        case errors.InsufficientPrivilege():
            return StoreRequestError(f"PostgreSQL refuses the credentials: {_told(error)}; grant the permission")
        case errors.UndefinedTable():
            return StoreRequestError(f"PostgreSQL has no such table: {_told(error)}")
        case errors.InFailedSqlTransaction():
            return StoreRequestError("the transaction on this connection has already failed: roll it back")
        case psycopg.Error() if error.sqlstate is not None:
            if error.sqlstate.startswith(_WORTH_ANOTHER_TRY):
                return StoreUnavailableError(f"PostgreSQL cannot be reached or is busy: {_told(error)}")
            return StoreRequestError(f"PostgreSQL refuses the request ({error.sqlstate}): {_told(error)}")
        case psycopg.OperationalError():
            return _of_connection(error)
        case psycopg.Error():
            return StoreRequestError(f"psycopg refuses the request: {_told(error)}")
        case _:
            return None


def _of_connection(error: psycopg.OperationalError) -> ConnectorError:
    told = _told(error)
    if type(error).__module__.startswith("psycopg_pool"):
        return ClientGaveUpError(f"PostgreSQL cannot be reached: the pool has no connection: {told}")
    if told in _ENDED:
        return ConnectionLostError(
            f"PostgreSQL cannot be reached: {told}. Connect again, or use a pool, which reconnects itself"
        )
    if any(word in told for word in _CREDENTIALS):
        return StoreRequestError(f"PostgreSQL refuses the credentials: {told}; set PGUSER and PGPASSWORD, or ~/.pgpass")
    if _NO_DATABASE in told:
        return StoreRequestError(f"PostgreSQL has no such database: {told}")
    return StoreUnavailableError(f"PostgreSQL cannot be reached: {told}")


def _told(error: psycopg.Error) -> str:
    """The first line of the message."""
    told = error.diag.message_primary or str(error)
    return told.partition("\n")[0][:_SHOWN_CHARS]
