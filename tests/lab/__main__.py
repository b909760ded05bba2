"""`python -m tests.lab build | deps | shell`: the lab from a terminal."""

from __future__ import annotations

import sys

from . import deps
from .guard import outlive
from .image import base_image
from .shell import Shell
from .template import template

USAGE = """usage: python -m tests.lab COMMAND

  deps     install the Debian packages the lab needs on this host (as root)
  build    build the guests' image, once per recipe, and boot the first template
  shell    three hosts (home, cloud, laptop) and a prompt"""


def main(arguments: list[str]) -> int:
    match arguments:
        case ["deps"]:
            return deps.install()
        case ["build"]:
            template(base_image(), 768, None)
            return 0
        case ["shell"]:
            return Shell.play()
        case ["guard", lab, directory]:
            outlive(lab, directory)
            return 0
        case _:
            print(USAGE, file=sys.stderr)
            return 0 if arguments in (["help"], ["--help"]) else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
