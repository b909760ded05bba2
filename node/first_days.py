"""The verbs of the first days, all for root: taking over what others copied, carrying a first copy, encrypting."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from node.adopt import Adopter
from node.adopt import Wanted as Adoption
from node.api import Api, Request
from node.encrypt import Encryptor
from node.encrypt import Wanted as Encryption
from node.errors import Exit, MeshkeepError
from node.seed import SeedExport, SeedImport
from zfs.names import InvalidName, check_dataset


class FirstDays:
    """Handlers. They always wait: the command is the job."""

    def __init__(self, adopter: Adopter, seeds: SeedExport, sowing: SeedImport, encryptor: Encryptor) -> None:
        self._adopter = adopter
        self._seeds = seeds
        self._sowing = sowing
        self._encryptor = encryptor

    def register(self, api: Api) -> None:
        api.register("replicate.adopt", self.adopt, access="root")
        api.register("seed.export", self.export, access="root")
        api.register("seed.import", self.sow, access="root")
        api.register("encrypt.plan", self.encrypt_plan, access="root")
        api.register("encrypt.run", self.encrypt_run, access="root")
        api.register("encrypt.abort", self.encrypt_abort, access="root")

    async def adopt(self, request: Request) -> dict[str, Any]:
        """A copy that is here, as a replica of its owner's; with `plan` only what would be done."""
        args = request.args
        guids = args.get("guids")
        wanted = Adoption(
            dataset=_dataset(args, "dataset"),
            owner=str(args.get("owner") or ""),
            source=_dataset(args, "source"),
            recursive=bool(args.get("recursive")),
            unmount=bool(args.get("unmount")),
            named=frozenset(str(one) for one in args.get("with") or ()),
            guids=None if guids is None else _guids(guids),
        )
        done = await (self._adopter.plan(wanted) if args.get("plan") else self._adopter.adopt(wanted))
        return {"schema": "meshkeep.replicate-adopt/1", **done}

    async def export(self, request: Request) -> dict[str, Any]:
        """A dataset's snapshots as streams in a directory."""
        args = request.args
        done = await self._seeds.run(
            _dataset(args, "dataset"),
            _place(args),
            request.progress,
            plaintext=bool(args.get("plaintext")),
            newest_only=bool(args.get("newest")),
        )
        return {"schema": "meshkeep.seed-export/1", **done}

    async def sow(self, request: Request) -> dict[str, Any]:
        """Such a directory, as a replica of its owner's; with `plan` only what would be done."""
        place = _place(request.args)
        on_paper = bool(request.args.get("plan"))
        done = await (self._sowing.plan(place) if on_paper else self._sowing.run(place, request.progress))
        return {"schema": "meshkeep.seed-import/1", **done}

    async def encrypt_plan(self, request: Request) -> dict[str, Any]:
        """What `encrypt_run` would do."""
        return {"schema": "meshkeep.encrypt-plan/1", **await self._encryptor.plan(_encryption(request.args))}

    async def encrypt_run(self, request: Request) -> dict[str, Any]:
        """A plaintext dataset encrypted, and the old one kept."""
        passphrase = str(request.args.get("key") or "").encode()
        done = await self._encryptor.run(_encryption(request.args), passphrase, request.progress)
        return {"schema": "meshkeep.encrypt/1", **done}

    async def encrypt_abort(self, request: Request) -> dict[str, Any]:
        """The copy goes, and the dataset is as it was."""
        done = await self._encryptor.abort(_dataset(request.args, "dataset"))
        return {"schema": "meshkeep.encrypt-abort/1", **done}


def _encryption(args: Mapping[str, Any]) -> Encryption:
    limit = args.get("files")
    if limit is not None and (type(limit) is not int or limit < 0):
        raise MeshkeepError("'files' is not a number of files", code="bad_request", exit=Exit.USAGE)
    return Encryption(_dataset(args, "dataset"), limit, bool(args.get("though_shared")))


def _dataset(args: Mapping[str, Any], key: str) -> str:
    try:
        return check_dataset(str(args.get(key) or ""))
    except InvalidName as error:
        raise MeshkeepError(str(error), code="bad_name", exit=Exit.USAGE) from None


def _place(args: Mapping[str, Any]) -> Path:
    place = Path(str(args.get("place") or ""))
    if not place.is_absolute():
        raise MeshkeepError(
            "the directory is not named from the root on", code="bad_place", exit=Exit.USAGE, why=str(place)
        )
    return place


def _guids(told: Any) -> frozenset[int]:
    if not isinstance(told, list) or not all(type(one) is int for one in told):
        raise MeshkeepError("the guids are no numbers", code="bad_guids", exit=Exit.USAGE)
    return frozenset(told)
