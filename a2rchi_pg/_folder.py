"""A folder as documents of the catalog."""

from __future__ import annotations

import mimetypes
import os
from fnmatch import fnmatch
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING

from a2rchi_pg._documents import DocumentSpec, short_text
from a2rchi_pg.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def existing_folder(path: str | os.PathLike[str]) -> Path:
    """A folder's absolute path.

    Raises:
        InvalidInput: If there is no such folder.
    """
    folder = Path(path).resolve()
    if not folder.is_dir():
        raise InvalidInput(f"there is no folder {str(path)!r}")
    return folder


def files_of(folder: Path) -> Iterator[Path]:
    """The regular files below a folder in a stable order, without hidden ones.

    Raises:
        OSError: If a folder can't be listed: its files are not to be taken for deleted.
    """
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if not name.startswith(".") and path.is_file():
                yield path


def matches(path: Path, folder: Path, patterns: Sequence[str]) -> bool:
    """Whether a file's path below its folder is like one of the patterns."""
    relative = path.relative_to(folder).as_posix()
    return any(fnmatch(relative, pattern) for pattern in patterns)


def _refuse(error: OSError) -> None:
    raise error


def fingerprint(path: Path) -> str | None:
    """Of a file's content; None where it can't be read, which loading it will say."""
    try:
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def key_of(path: Path) -> str:
    """What a file is known by in the catalog: its path."""
    return sha256(os.fsencode(path)).hexdigest()[:32]


def document_of(path: Path, content_hash: str | None, folder: Path) -> DocumentSpec | None:
    """A file as a document; None where it is gone by now."""
    try:
        about = path.stat()
    except FileNotFoundError:
        return None
    return DocumentSpec(
        resource_hash=key_of(path),
        display_name=path.name,
        source_type="local_files",
        suffix=short_text(path.suffix.lower()),
        mime_type=mimetypes.guess_type(path.name)[0],
        size_bytes=about.st_size,
        file_path=path,
        base_path=folder,
        relative_path=path.relative_to(folder),
        content_hash=content_hash,
        source_modified_at=about.st_mtime,
    )
