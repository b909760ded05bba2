"""`python -m tests.differential.deps`: install what the oracle is made of. Without a sanoid.conf no sanoid runs by itself."""

import sys

from tests.lab import deps

PACKAGES = ("sanoid", "faketime")

if __name__ == "__main__":
    sys.exit(deps.install(PACKAGES, "the oracle"))
