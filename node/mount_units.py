"""Pure: the systemd units of an NFS mount, their names, and what a unit of ours says of itself."""

import re
from dataclasses import dataclass

MANAGED = "# managed by meshkeep"
AGENT = "meshkeep-agent.service"

# softerr: a server that is away gives an error after half a minute instead of hanging the desktop. The source
# port stays reserved (no "noresvport"): the server wants it as a sign that root speaks and no other program.
_OPTIONS = "vers=4.2,proto=tcp6,softerr,timeo=100,retrans=3,retry=0,nosuid,nodev,_netdev"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A mount: *path* on the node called *node* at *address*, at *where*. `made`: we made that directory."""

    node: str
    address: str
    path: str
    where: str
    rw: bool
    made: bool = False

    @property
    def source(self) -> str:
        """As mount(8) and mountinfo have it."""
        return f"[{self.address}]:{self.path}"


def escape_path(path: str) -> str:
    """systemd-escape --path: the name of the unit for *path*, without its suffix (systemd.unit(5))."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts:
        return "-"
    raw = "/".join(parts).encode(errors="surrogateescape")
    return "".join(_escaped(byte, first=position == 0) for position, byte in enumerate(raw))


def _escaped(byte: int, *, first: bool) -> str:
    character = chr(byte)
    if character == "/":
        return "-"
    if re.fullmatch(r"[A-Za-z0-9:_.]", character, re.ASCII) and not (first and character == "."):
        return character
    return f"\\x{byte:02x}"


def mount_unit(wanted: Wanted) -> str:
    """The text of the .mount unit. Raises ValueError for a path that a unit cannot express."""
    return f"""{MANAGED}
[Unit]
Description=meshkeep: {_value(wanted.path)} of {wanted.node}
After={AGENT}

[Mount]
What={_value(wanted.source)}
Where={_value(wanted.where)}
Type=nfs
Options={_OPTIONS},{"rw" if wanted.rw else "ro"}
TimeoutSec=45

[X-Meshkeep]
Node={wanted.node}
Address={wanted.address}
Path={_value(wanted.path)}
Access={"rw" if wanted.rw else "ro"}
Made={"yes" if wanted.made else "no"}
"""


def automount_unit(wanted: Wanted) -> str:
    """The text of the .automount unit: mounts on first use, lets go when idle."""
    return f"""{MANAGED}
[Unit]
Description=meshkeep: {_value(wanted.path)} of {wanted.node}, when used

[Automount]
Where={_value(wanted.where)}
TimeoutIdleSec=10min

[Install]
WantedBy=multi-user.target
"""


def read_unit(text: str) -> Wanted | None:
    """The inverse of `mount_unit`; None for a unit that is not ours."""
    if not text.startswith(MANAGED + "\n"):
        return None
    found = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    try:
        return Wanted(
            found["Node"],
            found["Address"],
            _plain(found["Path"]),
            _plain(found["Where"]),
            found["Access"] == "rw",
            found["Made"] == "yes",
        )
    except KeyError:
        return None


def _value(text: str) -> str:
    if any(ord(character) < 32 for character in text) or text != text.strip() or "\\" in text:
        raise ValueError(f"{text!r} cannot be written in a systemd unit")
    return text.replace("%", "%%")


def _plain(value: str) -> str:
    return value.replace("%%", "%")
