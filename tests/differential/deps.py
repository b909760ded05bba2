"""`python -m tests.differential.deps`: install the real sanoid. It does nothing by itself without a sanoid.conf."""

import sys

from tests.lab import deps

PACKAGES = ("sanoid", "faketime")

if __name__ == "__main__":
    sys.exit(deps.install(PACKAGES, "the oracle"))
