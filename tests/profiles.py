"""How many examples hypothesis tries: a quarter of them in `make test`, all of them in `make test-all`."""

from hypothesis import settings

# Without a deadline for an example: a busy machine pauses, and no test judges by the clock.
settings.register_profile("commit", max_examples=25, deadline=None)
settings.register_profile("thorough", max_examples=100, deadline=None)


def load_usual():
    """Take the profile of `make test`."""
    settings.load_profile("commit")


def examples(thorough):
    """Give the number of examples for a test that has its own, as the profile in use scales it."""
    return max(1, thorough * settings().max_examples // 100)
