"""Prompts: texts in a folder, of which the configuration says by name which are used.

    prompts/chat/default.prompt
    prompts/chat/brief.prompt
    prompts/system/default.prompt

>>> prompts = Prompts(config.get_static_config().prompts_path)
>>> prompts.active(config.effective("ann"))["chat"]
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from a2rchi_pg._arguments import one_of, shown
from a2rchi_pg._content import clean_text
from a2rchi_pg.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from os import PathLike

    from a2rchi_pg._settings import DynamicConfig

PromptKind: TypeAlias = Literal["condense", "chat", "system"]
KINDS: tuple[PromptKind, ...] = get_args(PromptKind)
SUFFIX = ".prompt"


class Prompts:
    """The prompts of a folder, as they were when it was last read.

    Each kind has a folder of its own, each prompt a file ``NAME.prompt``. A name is only ever
    looked up among those that were read, so none leads out of the folder.

    Args:
        path: The folder; one that isn't there holds no prompts, and None is none.

    Raises:
        InvalidInput: If a file in it can't be read, or is no UTF-8; names it.
    """

    def __init__(self, path: str | PathLike[str] | None) -> None:
        self._path = None if path is None else Path(path)
        self._texts: dict[PromptKind, dict[str, str]] = {}
        self.reload()

    def reload(self) -> int:
        """Read the folder again; how many prompts there are. What was read before stays on error.

        Raises:
            InvalidInput: If a file in it can't be read, or is no UTF-8; names it.
        """
        folder = self._path
        self._texts = {kind: {} if folder is None else _texts(folder / kind) for kind in KINDS}
        return sum(map(len, self._texts.values()))

    def names(self, kind: PromptKind) -> list[str]:
        """The names of the prompts of a kind, in order.

        Raises:
            InvalidInput: If it is none of the kinds.
        """
        return sorted(self._of(kind))

    def has(self, kind: PromptKind, name: str) -> bool:
        """Whether there is such a prompt.

        Raises:
            InvalidInput: If it is none of the kinds.
        """
        return name in self._of(kind)

    def get(self, kind: PromptKind, name: str) -> str:
        """The text of a prompt.

        Raises:
            InvalidInput: If it is none of the kinds.
            NotFound: If there is no such prompt; says which there are.
        """
        texts = self._of(kind)
        if name not in texts:
            known = ", ".join(sorted(texts)) or "none"
            raise NotFound(f"there is no {kind} prompt {shown(name)}; there are: {known}")
        return texts[name]

    def active(self, config: DynamicConfig) -> dict[PromptKind, str]:
        """The text of each kind that a configuration names.

        Raises:
            NotFound: If one isn't there; says which there are.
        """
        return {kind: self.get(kind, getattr(config, f"active_{kind}_prompt")) for kind in KINDS}

    def _of(self, kind: PromptKind) -> dict[str, str]:
        return self._texts[one_of(kind, "kind", KINDS)]


def _texts(folder: Path) -> dict[str, str]:
    if not folder.is_dir():
        return {}
    return {path.stem: _text(path) for path in folder.glob(f"*{SUFFIX}")}


def _text(path: Path) -> str:
    try:
        return clean_text(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise InvalidInput(f"prompt {path} can't be read: {reason}") from error
