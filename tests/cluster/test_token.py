"""The token of Ray, by which one runs programs as the user of a cluster."""

from pathlib import Path

import pytest

from survey.cluster import connection


def test_only_its_user_may_read_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    connection.hide_token()
    assert not list(tmp_path.iterdir())
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("secret")
    token.chmod(0o644)
    connection.hide_token()
    assert token.stat().st_mode & 0o777 == 0o600
