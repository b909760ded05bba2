"""`python -m tests.lab build | deps | shell`: the lab from a terminal."""

from __future__ import annotations

import sys

from . import deps

USAGE = """usage: python -m tests.lab COMMAND

  deps     install the Debian packages the lab needs on this host (as root)
  build    build the guests' image, once per recipe, and boot the first template
  shell    three hosts (home, cloud, laptop) and a prompt"""


def main(arguments: list[str]) -> int:
    # `deps` runs before anything else is installed, and so before the rest is imported.
    match arguments:
        case ["deps"]:
            return deps.install()
        case ["build"]:
            from .image import base_image
            from .template import template

            template(base_image(), 768, None)
            return 0
        case ["shell"]:
            from .shell import Shell

            return Shell.play()
        case ["guard", lab, directory]:
            from .guard import outlive

            outlive(lab, directory)
            return 0
        case _:
            print(USAGE, file=sys.stderr)
            return 0 if arguments in (["help"], ["--help"]) else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
