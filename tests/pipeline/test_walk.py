from __future__ import annotations

import os
from itertools import product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightretriever.errors import InputError, UsageError
from lightretriever.pipeline.walk import Found, LeftOut, Reason, WalkOptions, walk

pytest.importorskip("pathspec")


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")
    return root


def ids(*sources: Path, **options: object) -> list[str]:
    return [one.id for one in walk(sources, WalkOptions(**options)) if isinstance(one, Found)]


def left_out(*sources: Path, **options: object) -> dict[str, Reason]:
    steps = walk(sources, WalkOptions(**options))
    return {one.path.relative_to(sources[0]).as_posix(): one.reason for one in steps if isinstance(one, LeftOut)}


def test_files_are_sorted_and_named_by_their_path(tmp_path: Path) -> None:
    make(tmp_path, "b.md", "a/z.md", "a/b/c.txt", "a.md")
    assert ids(tmp_path) == ["a/b/c.txt", "a/z.md", "a.md", "b.md"]
    found = next(one for one in walk([tmp_path]) if isinstance(one, Found))
    assert found.path == tmp_path / "a/b/c.txt"
    assert found.size == 4
    assert found.mtime == found.path.stat().st_mtime_ns


def test_what_is_hidden_or_installed_or_built_is_told_once(tmp_path: Path) -> None:
    make(
        tmp_path, ".git/config", ".env", "node_modules/x/readme.md", "x/__pycache__/a.py", "env/pyvenv.cfg", "env/a.py"
    )
    make(tmp_path, "cache/CACHEDIR.TAG", "cache/a.txt", "app/package.json", "app/dist/a.js", "dist/notes.md", "p.png")
    (tmp_path / "nothing.txt").touch()
    assert ids(tmp_path) == ["app/package.json", "dist/notes.md"]
    assert left_out(tmp_path) == {
        ".env": Reason.HIDDEN,
        ".git": Reason.HIDDEN,
        "app/dist": Reason.BUILT,
        "cache": Reason.BUILT,
        "env": Reason.DEPENDENCIES,
        "node_modules": Reason.DEPENDENCIES,
        "nothing.txt": Reason.EMPTY,
        "p.png": Reason.NO_DOCUMENT,
        "x/__pycache__": Reason.BUILT,
    }
    assert "node_modules/x/readme.md" in ids(tmp_path, dependencies=True)
    assert ".env" in ids(tmp_path, hidden=True)
    assert ".git/config" not in ids(tmp_path, hidden=True)


def test_an_index_of_ours_is_no_source(tmp_path: Path) -> None:
    make(tmp_path, "my.index/index.db", "my.index/table/README.md", "a.md")
    assert ids(tmp_path, dependencies=True) == ["a.md"]
    assert left_out(tmp_path) == {"my.index": Reason.INDEX}


def test_gitignore_as_git_reads_it(tmp_path: Path) -> None:
    make(tmp_path, "a.log", "keep.log", "sub/b.log", "sub/keep/c.log", "tmp/x.md", "deep/tmp/x.md", "sub/only.md")
    (tmp_path / ".gitignore").write_text("*.log\n!keep.log\n/tmp/\n# a remark\n!\n")
    (tmp_path / "sub/.gitignore").write_text("!b.log\nonly.*\n!keep/\n")
    assert ids(tmp_path) == ["deep/tmp/x.md", "keep.log", "sub/b.log"]
    assert left_out(tmp_path)["tmp"] is Reason.IGNORED
    assert left_out(tmp_path)["sub/keep/c.log"] is Reason.IGNORED
    assert "a.log" in ids(tmp_path, gitignore=False)


def test_gitignore_above_the_source_counts_within_a_repository(tmp_path: Path) -> None:
    make(tmp_path, ".gitignore", "repo/.git/config", "repo/docs/a.md", "repo/docs/secret.md")
    (tmp_path / ".gitignore").write_text("a.md\n")
    (tmp_path / "repo/.gitignore").write_text("/docs/secret.md\n")
    assert ids(tmp_path / "repo/docs") == ["a.md"]


def test_patterns(tmp_path: Path) -> None:
    make(tmp_path, "a.md", "a.py", "sub/b.md", "old/c.md", "old/deep/d.md")
    assert ids(tmp_path, include=("*.md",)) == ["a.md", "old/c.md", "old/deep/d.md", "sub/b.md"]
    assert ids(tmp_path, include=("sub/**", "a.*")) == ["a.md", "a.py", "sub/b.md"]
    assert ids(tmp_path, exclude=("old/", "*.py")) == ["a.md", "sub/b.md"]
    assert left_out(tmp_path, exclude=("old/",)) == {"old": Reason.EXCLUDED}
    assert left_out(tmp_path, include=("*.md",)) == {"a.py": Reason.NOT_INCLUDED}
    with pytest.raises(InputError, match="include: '!' is no pattern"):
        walk([tmp_path], WalkOptions(include=("!",)))


def test_links_are_not_followed(tmp_path: Path) -> None:
    make(tmp_path, "in/a.md", "outside/secret.md")
    (tmp_path / "in/round").symlink_to(tmp_path / "in")
    (tmp_path / "in/out").symlink_to(tmp_path / "outside")
    (tmp_path / "in/out.md").symlink_to(tmp_path / "outside/secret.md")
    (tmp_path / "in/gone.md").symlink_to(tmp_path / "nowhere")
    assert ids(tmp_path / "in") == ["a.md"]
    assert set(left_out(tmp_path / "in").values()) == {Reason.LINK}
    (tmp_path / "door").symlink_to(tmp_path / "in")
    assert ids(tmp_path / "door") == ["a.md"]  # a source that is one is what the user means


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    assert left_out(tmp_path) == {"pipe.txt": Reason.SPECIAL}
    assert list(walk([tmp_path / "pipe.txt"])) == [LeftOut(tmp_path / "pipe.txt", Reason.SPECIAL)]


def test_a_file_as_source_is_read_whatever_its_name(tmp_path: Path) -> None:
    make(tmp_path, ".hidden.png")
    assert ids(tmp_path / ".hidden.png") == [".hidden.png"]


def test_ids_of_several_sources_differ_and_depend_on_the_sources_alone(tmp_path: Path) -> None:
    make(tmp_path, "one/docs/a.md", "two/docs/a.md", "notes/a.md", "a.md", "one/a.md")
    assert ids(tmp_path / "notes", tmp_path / "one/docs") == ["notes/a.md", "docs/a.md"]
    assert ids(tmp_path / "one/docs", tmp_path / "two/docs") == ["one/docs/a.md", "two/docs/a.md"]
    together = ids(tmp_path / "a.md", tmp_path / "one/a.md", tmp_path / "notes")
    assert together == [f"{tmp_path.name}/a.md", "one/a.md", "notes/a.md"]
    (tmp_path / "two/docs/a.md").unlink()
    assert ids(tmp_path / "one/docs", tmp_path / "two/docs") == ["one/docs/a.md"]


def test_a_label_that_starts_like_another_id_is_told_apart(tmp_path: Path) -> None:
    make(tmp_path, "x/a/b/c.md", "y/a/b/c.md", "z/b/c.md")
    found = ids(tmp_path / "x/a", tmp_path / "y/a/b", tmp_path / "z/b")
    assert len(set(found)) == 3


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen=st.lists(st.lists(st.sampled_from("ab"), max_size=3), min_size=1, max_size=5))
def test_every_file_has_one_id_whatever_the_sources(tmp_path: Path, chosen: list[list[str]]) -> None:
    for one, two, three in product("ab", repeat=3):
        if not (tmp_path / one / two / three / "f.md").exists():
            make(tmp_path, f"{one}/f.md", f"{one}/{two}/f.md", f"{one}/{two}/{three}/f.md", "f.md")
    sources = [tmp_path.joinpath(*steps) for steps in chosen]
    found = [one for one in walk(sources) if isinstance(one, Found)]
    assert len({one.id for one in found}) == len(found)
    expected = {path.resolve() for source in sources for path in source.rglob("f.md")}
    assert {one.path.resolve() for one in found} == expected
    assert len(found) == len(expected)


def test_a_source_within_another_is_read_once(tmp_path: Path) -> None:
    make(tmp_path, "docs/a.md", "docs/api/b.md")
    assert ids(tmp_path / "docs", tmp_path / "docs/api", tmp_path / "docs") == ["docs/a.md", "docs/api/b.md"]


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.md")).write_text("text")
    assert ids(tmp_path) == ["caf\\xe9.md"]


def test_a_path_that_is_too_long_for_an_id(tmp_path: Path) -> None:
    make(tmp_path, "/".join(["d" * 200] * 6) + "/a.md", "b.md")
    assert ids(tmp_path) == ["b.md"]
    assert list(left_out(tmp_path).values()) == [Reason.LONG_NAME]


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        walk([tmp_path / "nowhere"])
    with pytest.raises(UsageError):
        walk([Path("~" + "\0")])
