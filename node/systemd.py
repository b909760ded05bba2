"""Telling systemd how the agent is: sd_notify(3) and the watchdog, fed from the event loop itself."""

import asyncio
import os
import socket


class Notifier:
    """Sends notifications to $NOTIFY_SOCKET; does nothing where systemd did not start us."""

    def __init__(self, address: str | None) -> None:
        self._address = address

    @classmethod
    def from_environment(cls) -> "Notifier":
        return cls(os.environ.get("NOTIFY_SOCKET"))

    def notify(self, *assignments: str) -> None:
        """Send e.g. ``READY=1``, ``STATUS=...``, ``STOPPING=1``."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.connect(address)
            sender.sendall("\n".join(assignments).encode())

    def watchdog_interval(self) -> float | None:
        """Half of what systemd waits, in seconds; None where no watchdog is set."""
        microseconds = os.environ.get("WATCHDOG_USEC")
        return int(microseconds) / 2_000_000 if microseconds else None

    async def feed_watchdog(self) -> None:
        """Runs for ever: a loop that is stuck does not feed, and systemd restarts the agent."""
        interval = self.watchdog_interval()
        while interval:
            self.notify("WATCHDOG=1")
            await asyncio.sleep(interval)
