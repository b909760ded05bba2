"""One seeded bug, and applying it to a tree."""

from dataclasses import dataclass
from pathlib import Path


class DoesNotApply(Exception):
    """The text to replace is not in its file exactly once. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """In `file`, `old` becomes `new`; that `breaks` something, and the `tests` (a file) must fail for it."""

    breaks: str
    file: str
    old: str
    new: str
    tests: str

    def applied(self, text: str) -> str:
        """The text of the file with the bug in it. Raises DoesNotApply."""
        count = text.count(self.old)
        if count != 1:
            raise DoesNotApply(f"{self.file} has this {count} times, not once: {self.old!r}")
        return text.replace(self.old, self.new)

    def check(self, root: Path) -> None:
        """Whether it still fits the tree at *root*. Raises DoesNotApply."""
        if self.old == self.new:
            raise DoesNotApply("it changes nothing")
        for path in (self.file, self.tests):
            if not (root / path).is_file():
                raise DoesNotApply(f"there is no {path}")
        try:
            compile(self.applied((root / self.file).read_text()), self.file, "exec", dont_inherit=True)
        except SyntaxError as error:
            raise DoesNotApply(f"{self.file} is no Python with it: {error.msg}") from error
