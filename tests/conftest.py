"""What every test shares."""

import os

from hypothesis import settings

# Before any test imports torch: its threads would fight those of the other pytest workers for the same cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Built on the active profile, so that Hypothesis's own settings for CI stay. No deadline: a first example
# pays for imports and compilation, and pytest-timeout bounds the test as a whole.
settings.register_profile("shakeout", deadline=None)
settings.load_profile("shakeout")
