"""How the property tests run: the same examples every time by default, many new ones with MESHKEEP_SOAK=1."""

import os

from hypothesis import settings

# No deadline: how long one example takes says how busy the machine is, and nothing about the code.
settings.register_profile("repeatable", deadline=None, derandomize=True, print_blob=True)
# Every failure prints a blob for @reproduce_failure, and .hypothesis/ remembers it for the next run.
settings.register_profile("soak", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile("soak" if os.environ.get("MESHKEEP_SOAK") == "1" else "repeatable")
