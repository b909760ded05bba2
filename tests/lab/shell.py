"""A prompt with three hosts to try things by hand: a home behind NAT, a cloud VM, a laptop elsewhere."""

from __future__ import annotations

from .host import Host
from .lab import Lab
from .progress import LabError, say

HOSTS = (
    Host("home", pool="tank", nat="easy"),
    Host("cloud", pool="tank"),
    Host("laptop", nat="hard"),
)
HELP = """  COMMAND          run it on the host of the prompt
  NAME:            go to that host
  NAME: COMMAND    run it there
  cut A B          drop everything between two hosts;  heal  undoes all cuts
  kill | boot      power cut and cold boot of this host;  wipe  burns it down
  hosts            names and addresses
  exit             (or Ctrl-D) end the lab"""


class Shell:
    """Reads a line, does it, prints what came out; errors never end it."""

    def __init__(self, lab: Lab, host: str) -> None:
        self._lab = lab
        self._host = host

    @classmethod
    def play(cls) -> int:
        with Lab(hosts=HOSTS) as lab:
            shell = cls(lab, HOSTS[0].name)
            shell.hosts()
            say("help says what this prompt can do")
            while True:
                try:
                    line = input(f"{shell._host}> ").strip()
                except (EOFError, KeyboardInterrupt):
                    return 0
                if line == "exit":
                    return 0
                shell.do(line)

    def do(self, line: str) -> None:
        try:
            self._do(line)
        except (LabError, TimeoutError, KeyError) as error:
            say(f"{type(error).__name__}: {error}")
        except KeyboardInterrupt:
            say("(left running in the guest)")

    def hosts(self) -> None:
        for guest in self._lab:
            nat = self._lab.nat(guest)
            how = f"NAT {nat}, inside {nat.private}" if nat else "public"
            say(f"{guest.name:8} {guest.address:15} {how}")

    def _do(self, line: str) -> None:
        name, colon, rest = line.partition(":")
        guest = self._lab[self._host]
        match line.split():
            case []:
                pass
            case ["help"]:
                say(HELP)
            case ["hosts"]:
                self.hosts()
            case ["cut", a, b]:
                self._lab.cut(a, b)
            case ["heal"]:
                self._lab.heal()
            case ["kill"]:
                guest.kill()
            case ["boot"]:
                guest.boot()
            case ["wipe"]:
                guest.wipe()
            case _ if colon and name in {guest.name for guest in self._lab}:
                if rest.strip():
                    self._run(name, rest.strip())
                else:
                    self._host = name
            case _:
                self._run(self._host, line)

    def _run(self, host: str, command: str) -> None:
        result = self._lab[host].run(command, check=False)
        print(result.stdout, end="", flush=True)
        if result.stderr:
            say(result.stderr.rstrip())
        if result.code:
            say(f"({result.code})")
