"""What can go wrong between two agents, and the one way for a peer to say no."""

from typing import Any


class LinkError(Exception):
    """A request to a peer did not succeed."""


class PeerUnreachable(LinkError):
    """There is no connection to the peer. It has not seen the request."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"{address}: {reason}")
        self.address = address
        self.reason = reason


class PeerBroke(PeerUnreachable):
    """The peer went away or talked nonsense after it was asked. It may have done what it was asked."""


class LinkTimeout(LinkError):
    """The peer did not answer in time. It may have done, or still be doing, what it was asked."""

    def __init__(self, address: str, verb: str, seconds: float) -> None:
        super().__init__(f"{address}: no answer to {verb} within {seconds:g} s")
        self.address = address
        self.verb = verb
        self.seconds = seconds


class _Told(Exception):
    """What goes over the wire as an error: a stable code, a text, a command to try, an exit code."""

    def __init__(self, code: str, text: str, hint: str = "", exit: int = 7) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.hint = hint
        self.exit = exit

    def as_json(self) -> dict[str, Any]:
        """The error frame."""
        return {"error": {"code": self.code, "text": self.text, "try": self.hint, "exit": self.exit}}


class Refusal(_Told):
    """Raised by a handler: the caller gets it as PeerRefused. `exit` is what its command should end with."""


class PeerRefused(_Told, LinkError):
    """The peer answered with an error. What that leaves behind is said by its `code`."""
