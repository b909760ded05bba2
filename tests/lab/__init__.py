"""Virtual machines with real kernels, on an internet of their own.

`with Lab(hosts=[Host("home")]) as lab: lab["home"].run("uname -a")`
"""

from .guest_agent import CommandFailed, Result, Running
from .host import Guest, Host
from .lab import Lab
from .network import Nat
from .progress import LabError

__all__ = ["CommandFailed", "Guest", "Host", "Lab", "LabError", "Nat", "Result", "Running"]
