"""The lab as a test sees it: hosts by name, an internet that can be cut, and nothing left behind."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from .guard import ROOT, Guard
from .host import Guest, Host
from .image import base_image, cache_directory
from .network import PREFIX, SERVER, Internet, Nat, sweep_the_dead
from .progress import LabError, say
from .template import Template, template

NUMBERS = itertools.count()
FAILURES = ROOT / "build" / "lab-failures"
Named = str | Guest
LIVE: list[Lab] = []


class Lab:
    """Hosts on one internet. A context manager: inside it everything runs, after it nothing does.

    `deb` is what the hosts have installed; None takes the newest build/meshkeep_*_all.deb, or builds one with
    `make deb`, or goes without.
    """

    def __init__(self, hosts: Sequence[Host] = (), deb: Path | None = None) -> None:
        self._specs = list(hosts)
        self._deb = deb
        self._guests: dict[str, Guest] = {}
        self._held: list[TextIO] = []
        self._server: subprocess.Popen[str] | None = None
        name = f"{os.getpid()}-{next(NUMBERS)}"
        self.directory = cache_directory() / "run" / name
        self._name = name

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise LabError("the lab needs root: it makes network namespaces and taps")
        sweep_the_dead()
        self.image = base_image()
        self.directory.mkdir(parents=True)
        LIVE.append(self)
        self._guard = Guard(PREFIX + self._name, self.directory)
        try:
            self._internet = Internet(PREFIX + self._name)
            self.start(*self._specs)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                self.keep_logs()
        finally:
            self.close()

    def __getitem__(self, name: str) -> Guest:
        return self._guests[name]

    def __iter__(self) -> Iterator[Guest]:
        return iter(self._guests.values())

    def start(self, *specs: Host) -> Guest:
        """Add hosts while the lab runs; returns the last one when all are up."""
        guests = [self._add(spec) for spec in specs]
        try:
            for guest in guests:
                guest.switch_on()
            with ThreadPoolExecutor(max_workers=max(1, len(guests))) as pool:
                list(pool.map(Guest.settle, guests))
        except BaseException:
            self.keep_logs()
            raise
        return guests[-1]

    def cut(self, a: Named, b: Named) -> None:
        """No packet passes between the two any more, in silence, until `heal`."""
        self._internet.cut(self._guest(a).place, self._guest(b).place)

    def heal(self) -> None:
        """Undo every cut."""
        self._internet.heal()

    def nat(self, host: Named) -> Nat | None:
        """ "easy", "hard" or None; the value also has `.public` and `.private` addresses."""
        return self._guest(host).place.nat

    def serve(self, path: Path | str) -> str:
        """Put a file on the internet's web server, where every host can fetch it."""
        if self._server is None:
            self._server = self._start_server()
        shutil.copy(path, self.directory / "www")
        return f"http://{SERVER}/{Path(path).name}"

    def keep_logs(self) -> None:
        """Consoles and journals of all hosts, for a person to read after a failure."""
        kept = FAILURES / f"{time.strftime('%Y%m%dT%H%M%S')}-{self._name}"
        for guest in self:
            target = kept / guest.name
            target.mkdir(parents=True, exist_ok=True)
            for log in guest.directory.glob("console.*"):
                shutil.copy(log, target)
            if guest.machine.running:
                try:
                    (target / "journal").write_text(guest.run("journalctl -b --no-pager", timeout=60).stdout)
                except (LabError, AssertionError, TimeoutError) as error:
                    (target / "journal").write_text(f"not reachable: {error}\n")
        say(f"logs of the failed lab: {kept}")

    def close(self) -> None:
        LIVE.remove(self)
        for guest in self:
            guest.kill()
        self._guard.release()
        if self._server is not None:
            self._server.communicate()
        for handle in self._held:
            handle.close()

    def _guest(self, host: Named) -> Guest:
        return self[host] if isinstance(host, str) else host

    def _add(self, spec: Host) -> Guest:
        if spec.name in self._guests:
            raise LabError(f"there is a host {spec.name} already")
        place = (
            self._internet.home_place(spec.lan or spec.name, spec.nat)
            if spec.nat
            else self._internet.public_place()
        )
        guest = Guest(spec, place, self.image, self._template(spec), self.directory / spec.name)
        self._guests[spec.name] = guest
        return guest

    def _template(self, spec: Host) -> Template | None:
        if spec.user_data is not None:
            return None
        made = template(self.image, spec.memory, self._package if spec.meshkeep else None)
        self._held.append(made.use())
        return made

    @functools.cached_property
    def _package(self) -> Path | None:
        return self._deb or find_deb()

    def _start_server(self) -> subprocess.Popen[str]:
        (self.directory / "www").mkdir()
        command = [
            "ip",
            "netns",
            "exec",
            self._internet.name,
            sys.executable,
            "-u",
            "-m",
            "http.server",
            "80",
        ]
        command += ["--bind", SERVER, "--directory", str(self.directory / "www")]
        with (self.directory / "www.log").open("w") as log:
            server = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
            )
        if server.stdout is None or not server.stdout.readline():
            raise LabError("the lab's web server did not start")
        return server


def find_deb() -> Path | None:
    """The package to test, and a line that says which."""
    if (built := _newest_deb()) is None and _makefile_builds_debs():
        say("building the package: make deb")
        subprocess.run(["make", "deb"], cwd=ROOT, check=True, stdout=sys.stderr)
        built = _newest_deb()
    if built is None:
        say("no build/meshkeep_*_all.deb and no `make deb`: hosts start without meshkeep")
    else:
        say(f"hosts have {built.relative_to(ROOT)}")
    return built


def _newest_deb() -> Path | None:
    return max(
        (ROOT / "build").glob("meshkeep_*_all.deb"), key=lambda path: path.stat().st_mtime, default=None
    )


def _makefile_builds_debs() -> bool:
    makefile = ROOT / "Makefile"
    return makefile.exists() and any(line.startswith("deb:") for line in makefile.read_text().splitlines())
