"""Disks that are full, read-only or out of reach: a clear error at once, and nothing is lost."""

import os
import resource
import shutil
import stat
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from embed_assets_tests.faults.processes import DONE, REFUSED, Lab
from embed_assets_tests.faults.truth import assert_as_undisturbed, assert_readable
from embed_assets_tests.small_pipelines import write_files

_NOBODY = 65534


@pytest.fixture
def lab(tmp_path: Path, tiny_bert: Path) -> Lab:
    lab = Lab(tmp_path / "lab", tiny_bert, checkpoint_seconds=3600, max_tokens_per_batch=4096)
    words = " ".join(f"word{n}" for n in range(1500))
    write_files(lab.corpus, {"a.txt": words, "b.txt": words[::-1]})
    return lab


def limit_files(n_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


def become_nobody() -> None:
    os.setgroups([])
    os.setgid(_NOBODY)
    os.setuid(_NOBODY)


@pytest.mark.parametrize("n_bytes", [3_000, 20_000])
def test_files_that_cannot_grow_are_a_clear_error_and_the_next_run_goes_on(
    lab: Lab, n_bytes: int
) -> None:
    process = lab.start(prepare=partial(limit_files, n_bytes))
    process.join(120)
    assert process.exitcode == REFUSED
    assert "cannot be written" in lab.refusal
    assert lab.settings.tables in lab.refusal
    assert "nothing was published" in lab.refusal
    assert_readable(lab.settings.tables)
    assert lab.finish() == DONE
    assert_as_undisturbed(lab.settings)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 200 kB, where this process may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small disk here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_a_clear_error_and_the_next_run_goes_on(
    small_disk: Path, tmp_path: Path, tiny_bert: Path, lab: Lab
) -> None:
    full = lab.settings.model_copy(update={"tables": str(small_disk / "tables")})
    assert lab.finish(settings=full) == REFUSED
    assert "cannot be written" in lab.refusal
    assert_readable(full.tables)
    # Room again, on a larger disk.
    shutil.copytree(full.tables, lab.settings.tables)
    assert lab.finish() == DONE
    assert_as_undisturbed(lab.settings)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody without rights")
def test_lost_permissions_are_a_clear_error_and_the_next_run_goes_on(lab: Lab) -> None:
    assert lab.finish() == DONE
    write_files(lab.corpus, {"a.txt": "Something new. " * 60})
    model = Path(lab.settings.model)
    for path in (lab.folder, *lab.folder.parents, model, *model.parents, *model.rglob("*")):
        path.chmod(path.stat().st_mode | stat.S_IROTH | stat.S_IXOTH)
    for name in ("steps.txt", "encoded.txt", "refusal.txt"):
        (lab.folder / name).touch()
        (lab.folder / name).chmod(0o666)
    process = lab.start(prepare=become_nobody)
    process.join(120)
    assert process.exitcode == REFUSED
    assert "cannot be written" in lab.refusal
    assert "ermission denied" in lab.refusal
    assert lab.finish() == DONE
    assert_as_undisturbed(lab.settings)
