"""A process that is forked from one with a Milvus Lite database open: the server is the parent's."""

import os

import pytest

from tests.milvus.parts import run_python
from tests.milvus.test_lite import attempt_elsewhere

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="the operating system has no fork")]

PARENT = """
    import gc, signal, traceback
    store = MilvusStore.open(sys.argv[1], "photos", CONFIG)
    store.upsert(records(0, 3))
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            {child}
        except Exception:
            traceback.print_exc()
            os._exit(1)
        {end}
    assert os.waitpid(pid, 0)[1] == 0
    store.upsert(records(3, 6))
    assert len(store.search(QUERY)) == store.count() == 6
    print("served", flush=True)
    input()
    store.close()
    print(attempt(sys.argv[1]), flush=True)
"""


@pytest.mark.parametrize("end", ["sys.exit()", "os._exit(0)"])
@pytest.mark.parametrize(
    "child",
    [
        "store.close(); store.close()",
        "del store; gc.collect()",
        "assert 'is open in another process' in attempt(sys.argv[1])",
        "assert 'opened before this process was forked' in refusal(store.count)",
        "assert 'opened before this process was forked' in refusal(lambda: store.upsert(records(0, 1)))",
    ],
    ids=["closes", "drops", "opens", "reads", "writes"],
)
def test_whatever_a_forked_process_does_its_parent_keeps_the_database(path, child, end):
    parent = run_python(PARENT.format(child=child, end=end), path)
    said = parent.stdout.readline()
    elsewhere = attempt_elsewhere(path) if said else ""
    out, errors = parent.communicate("\n", timeout=60)
    assert (said, out) == ("served\n", "opened\n"), errors
    assert "is open in another process" in elsewhere
