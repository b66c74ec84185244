"""What was lent is looked after from outside, whatever a job without a sandbox leaves there."""

from pathlib import Path

from instar.run.conduct.protected import changed, fingerprints_of


def test_a_change_and_a_removal_are_seen(tmp_path: Path) -> None:
    folder = tmp_path / "generations" / "0001"
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "README.md"):
        (folder / name).write_text(name)
    before = fingerprints_of([folder, tmp_path / "seal.key"], tmp_path)
    assert list(changed(before)) == []
    (folder / "config.json").write_text("longer than it was")
    (folder / "README.md").unlink()
    (tmp_path / "seal.key").write_text("new")
    names = sorted(Path(path).name for path in changed(before))
    assert names == ["README.md", "config.json", "seal.key"]


def test_links_that_lead_round_in_a_circle_stop_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "generations" / "0001"
    folder.mkdir(parents=True)
    (folder / "circle").symlink_to("circle")
    (tmp_path / "round").symlink_to("round")
    found = fingerprints_of([folder, tmp_path / "round"], tmp_path)
    assert [Path(path).name for path in found] == ["round"]
    assert list(changed(found)) == []


def test_what_lies_elsewhere_is_not_looked_at(tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    other.write_text("x")
    assert fingerprints_of([other], home) == {}
