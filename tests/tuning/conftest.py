"""Videos of one's own, among them one that is none."""

from pathlib import Path

import pytest

from vidprune.demo.clips import write_clips


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, per_class=1, seed=12)
    (folder / "broken").mkdir()
    (folder / "broken" / "0.mp4").write_bytes(b"no video")
    return folder
