"""What psycopg's errors become, and which calls are made again."""

import re
import threading

import psycopg
import psycopg_pool
import pytest
from psycopg import errors

from jclip_connectors.errors import StoreRequestError, StoreUnavailableError
from jclip_connectors.pgvector import PgVectorStore
from jclip_connectors.pgvector.errors import translate
from jclip_connectors.pgvector.reconnecting import Reconnecting
from jclip_connectors.store_kit.patience import ClientGaveUpError, ConnectionLostError
from tests.doubles.postgres_faults import TroubledDatabase
from tests.pgvector.parts import CONFIG, QUERY, records


@pytest.fixture
def troubled():
    with TroubledDatabase(password="secret-1").running() as database:  # noqa: S106 (of the tests' own server)
        yield database


@pytest.fixture
def pool(troubled):
    with psycopg_pool.ConnectionPool(
        kwargs=troubled.server.address(troubled.name), min_size=1, max_size=2, timeout=0.5, open=True
    ) as pool:
        yield pool


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("40001", StoreUnavailableError),  # serialization_failure
        ("40P01", StoreUnavailableError),  # deadlock_detected
        ("53300", StoreUnavailableError),  # too_many_connections
        ("57P03", StoreUnavailableError),  # cannot_connect_now
        ("57014", StoreUnavailableError),  # query_canceled
        ("55P03", StoreUnavailableError),  # lock_not_available
        ("42501", StoreRequestError),  # insufficient_privilege
        ("25006", StoreRequestError),  # read_only_sql_transaction
        ("22000", StoreRequestError),  # data_exception
    ],
)
def test_what_a_server_says_is_tried_again_where_that_may_help(troubled, caplog, state, kind):
    store = PgVectorStore.open(troubled.connect(), "photos", CONFIG)
    troubled.fail(state, "so it is")
    with pytest.raises(kind, match="so it is"):
        store.count()
    assert len(caplog.records) == (2 if kind is StoreUnavailableError else 0)


@pytest.mark.usefixtures("quick")
def test_a_server_that_cannot_serialise_two_writers_is_asked_again(connect):
    first, second = connect(), connect()
    first.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    store = PgVectorStore.open(first, "photos", CONFIG)
    store.upsert(records(0, 1))
    other = PgVectorStore.open(second, "photos", CONFIG)
    second.autocommit = False
    with second.transaction():
        other.upsert(records(0, 1, metadata={"from": "other"}))
        writer = threading.Thread(target=store.upsert, args=(records(0, 1, metadata={"from": "first"}),))
        writer.start()
        waiting = "SELECT FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
        while not second.execute(waiting, [first.info.backend_pid]).fetchall():
            second.execute("SELECT pg_stat_clear_snapshot()")
    writer.join()
    assert store.get(["0"])[0].metadata == {"from": "first"}


def test_a_lock_that_is_given_up_is_waited_for(connect, monkeypatch):
    connection, holder = connect(), connect(autocommit=False)
    store = PgVectorStore.open(connection, "photos", CONFIG)
    holder.execute("LOCK TABLE photos IN ACCESS EXCLUSIVE MODE")
    connection.execute("SET lock_timeout = '50ms'")
    monkeypatch.setattr("jclip_connectors.store_kit.patience._pause", lambda *_: holder.rollback())
    assert store.count() == 0


@pytest.mark.usefixtures("quick")
def test_a_pool_connects_again_after_the_server_has_ended_its_connections(troubled, pool):
    store = PgVectorStore.open(pool, "photos", CONFIG)
    store.upsert(records(0, 3))
    troubled.end_connections()
    assert store.count() == 3
    troubled.end_connections()
    store.upsert(records(3, 4))
    assert len(store.search(QUERY)) == 4


def test_a_pool_that_gets_no_connection_is_not_asked_again(troubled, pool):
    store = PgVectorStore.open(pool, "photos", CONFIG)
    troubled.go_down()
    with pytest.raises(StoreUnavailableError):
        store.count()  # its connection has ended
    with pytest.raises(ClientGaveUpError, match=r"cannot be reached: the pool has no connection: .* after 0\.50 sec"):
        store.count()
    pool.close()
    with pytest.raises(ClientGaveUpError, match="is already closed"):
        store.count()


@pytest.mark.usefixtures("quick")
def test_a_connection_that_the_server_has_ended_stays_closed_which_is_told(troubled):
    store = PgVectorStore.open(troubled.connect(), "photos", CONFIG)
    troubled.end_connections()
    with pytest.raises(StoreUnavailableError, match=r"the connection is (lost|closed)\. Connect again"):
        store.count()


def test_a_connection_that_is_made_again_goes_on_after_the_server_has_ended_it(troubled):
    lent = Reconnecting(troubled.connect)
    store = PgVectorStore.open(lent, "photos", CONFIG)
    store.upsert(records(0, 3))
    for _ in range(2):
        troubled.end_connections()
        assert store.count() == 3
    lent._lent.close()  # as when the network is cut
    assert store.count() == 3
    lent.close()


def test_a_lost_connection_is_waited_for_where_it_is_made_again(troubled):
    lost = psycopg.OperationalError("the connection is lost")
    lent = Reconnecting(troubled.connect)

    def lose():
        with lent.connection() as connection:
            connection.close()
            raise lost

    with pytest.raises(psycopg.OperationalError) as caught:
        lose()
    assert not isinstance(translate(caught.value), ConnectionLostError)
    assert isinstance(translate(lost), ConnectionLostError)
    lent.close()


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"password": "wrong"}, StoreRequestError, "refuses the credentials: .*password authentication failed"),
        ({"user": "nobody_of_that_name"}, StoreRequestError, "refuses the credentials: .*authentication failed"),
        ({"dbname": "no_such"}, StoreRequestError, 'no such database: .*"no_such"'),
        ({"port": 1}, StoreUnavailableError, "cannot be reached: .*refused"),
    ],
)
def test_a_connection_that_cannot_be_made_is_told(server, options, kind, message):
    with pytest.raises(psycopg.OperationalError) as caught:
        server.connect(**options)
    error = translate(caught.value)
    assert type(error) is kind
    assert re.search(message, str(error))
    assert server.password not in str(error)


def test_errors_of_others_are_not_taken_for_psycopgs():
    assert translate(ValueError("no")) is None
    assert isinstance(translate(errors.InterfaceError("the cursor is closed")), StoreRequestError)
