"""Whether an event loop goes on while other work is done."""

import asyncio
import threading


def needing_the_loop(target, *names):
    """Let these methods of an object begin once the running loop has taken a turn: called in its thread, they fail."""
    loop = asyncio.get_running_loop()

    def after_a_turn(method):
        def call(*args, **options):
            turned = threading.Event()
            loop.call_soon_threadsafe(turned.set)
            assert turned.wait(20), "the event loop is held up"
            return method(*args, **options)

        return call

    for name in names:
        setattr(target, name, after_a_turn(getattr(target, name)))
    return target
