"""Prompts that a configuration names, read from a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from a2rchi_pg import DynamicConfig, Prompts
from a2rchi_pg.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for kind in ("chat", "condense", "system"):
        write(tmp_path, f"prompts/{kind}/default.prompt", f"the {kind}'s")
    write(tmp_path, "prompts/chat/brief.prompt", "In a word: ÄÖ\0")
    write(tmp_path, "prompts/chat/notes.txt", "no prompt")
    write(tmp_path, "secret.prompt", "not for all")
    return tmp_path / "prompts"


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, encoding="utf-8")


def test_they_are_loaded_listed_and_got(folder: Path):
    prompts = Prompts(folder)
    assert prompts.reload() == 4
    assert prompts.names("chat") == ["brief", "default"]
    assert prompts.get("chat", "brief") == "In a word: ÄÖ"
    assert prompts.has("chat", "brief")
    assert not prompts.has("system", "brief")


def test_a_configuration_says_which_are_used(folder: Path):
    config = DynamicConfig(active_chat_prompt="brief")
    assert Prompts(folder).active(config) == {
        "condense": "the condense's",
        "chat": "In a word: ÄÖ",
        "system": "the system's",
    }
    with pytest.raises(NotFound, match="no system prompt 'curt'; there are: default"):
        Prompts(folder).active(DynamicConfig(active_system_prompt="curt"))


@pytest.mark.parametrize(
    "name",
    [
        "none",
        "../../secret",
        "../chat/default",
        "/etc/passwd",
        "default.prompt",
        "",
        "a\0",
        None,
        5,
    ],
)
def test_a_name_is_that_of_a_file_that_was_read(folder: Path, name: Any):
    prompts = Prompts(folder)
    assert not prompts.has("chat", name)
    with pytest.raises(NotFound, match="there are: brief, default"):
        prompts.get("chat", name)


@pytest.mark.parametrize("kind", ["agent", "", "../chat", None, 5, ["chat"]])
def test_another_kind_is_refused(folder: Path, kind: Any):
    prompts = Prompts(folder)
    for call in (prompts.names, lambda kind: prompts.get(kind, "default")):
        with pytest.raises(InvalidInput, match="kind must be one of condense, chat, system"):
            call(kind)


@pytest.mark.parametrize("missing", [None, "nowhere"])
def test_where_there_is_no_folder_there_are_none(tmp_path: Path, missing: str | None):
    prompts = Prompts(missing and tmp_path / missing)
    assert prompts.reload() == 0
    assert prompts.names("chat") == []
    with pytest.raises(NotFound, match="there are: none"):
        prompts.get("chat", "default")


def test_what_was_read_stays_until_it_is_read_again(folder: Path):
    prompts = Prompts(folder)
    write(folder, "chat/brief.prompt", "shorter")
    (folder / "chat/default.prompt").unlink()
    assert prompts.get("chat", "brief") == "In a word: ÄÖ"
    assert prompts.has("chat", "default")
    assert prompts.reload() == 3
    assert prompts.get("chat", "brief") == "shorter"
    assert not prompts.has("chat", "default")


def test_a_file_that_is_no_text_is_named_and_changes_nothing(folder: Path):
    prompts = Prompts(folder)
    (folder / "system/default.prompt").write_bytes(b"\xff\xfe")
    (folder / "chat/brief.prompt").write_text("shorter")
    with pytest.raises(InvalidInput, match=r"system/default\.prompt can't be read: it is no UTF-8"):
        prompts.reload()
    assert prompts.get("chat", "brief") == "In a word: ÄÖ"
    (folder / "system/default.prompt").unlink()
    (folder / "system/default.prompt").mkdir()
    with pytest.raises(InvalidInput, match=r"default\.prompt can't be read: Is a directory"):
        prompts.reload()


def test_an_editors_byte_order_mark_is_no_part_of_a_prompt(folder: Path):
    write(folder, "chat/marked.prompt", "\ufeffBe brief.")
    assert Prompts(folder).get("chat", "marked") == "Be brief."
