"""How many examples hypothesis tries: a quarter of them in `make test`, all of them in `make test-all`."""

from hypothesis import settings

settings.register_profile("commit", max_examples=25)
settings.register_profile("thorough", max_examples=100)


def load_usual():
    """Take the profile of `make test`."""
    settings.load_profile("commit")


def examples(thorough):
    """Give the number of examples for a test that has its own, as the profile in use scales it."""
    return max(1, thorough * settings().max_examples // 100)
