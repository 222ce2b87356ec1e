"""One thread for every test and every process that a test starts, set before torch is imported.

The models here are so small that a second thread only waits for the first, and on a busy machine waits long.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

pytest.register_assert_rewrite("jclip_connectors.testing")  # the suites are inherited, and say what they found
