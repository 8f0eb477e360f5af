"""Errors in data-loading workers, and workers whose parent is killed."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from tests.conftest import noise_image
from tpt.data import EpisodeDataModule, Shots, ShotsDataModule, image_folder
from tpt.data.loading import Loader
from tpt.errors import BadImageError, UserError
from tpt.views import Views


def test_workers_pass_on_errors_unchanged(tmp_path: Path) -> None:
    """In testing and training, the error has its own message without torch's traceback."""
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(2):
            noise_image(number).save(tmp_path / name / f"{number}.png")
    whole = (tmp_path / "dog" / "1.png").read_bytes()
    dataset = image_folder(tmp_path)
    (tmp_path / "dog" / "1.png").write_bytes(whole[:80])
    testing = EpisodeDataModule([dataset], num_workers=1).use_views(Views(8, 2)).test_dataloader()[0]
    shots = ShotsDataModule(Shots(dataset, None), batch_size=2, num_workers=1).use_image_size(8)
    for loader in (testing, shots.train_dataloader()):
        with pytest.raises(BadImageError) as caught:
            list(loader)
        assert str(caught.value).startswith("Cannot decode the image ") and "dog/1.png" in str(caught.value)
        assert "Traceback" not in str(caught.value) and len(str(caught.value)) < 400


class Cramped(Dataset[Tensor]):
    """Limits files in its worker to 1000 bytes, and so shared memory, whose blocks are files."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        if get_worker_info() is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        return torch.full((300,), index)


def nested(items: list[Tensor]) -> dict[str, list[tuple[Tensor, str]]]:
    return {"of": [(item, "name") for item in items]}


def test_a_batch_too_large_for_shared_memory_is_a_user_error() -> None:
    """torch alone would print a traceback and wait forever."""
    assert len(list(Loader(Cramped(), nested, num_workers=0))) == 4
    with pytest.raises(UserError, match=r"no room for a batch of 0.0 MB in shared memory.*data.num_workers=0"):
        list(Loader(Cramped(), nested, num_workers=1))


SLEEPY = """
import os, sys, time, torch
from tpt.data.loading import Loader
class Sleepy(torch.utils.data.Dataset):
    def __len__(self): return 4
    def __getitem__(self, index):
        os.write(1, f"{os.getpid()}\\n".encode())  # in one piece
        time.sleep(100)
list(Loader(Sleepy(), list, num_workers=2))
"""


def test_workers_end_with_their_parent() -> None:
    """Workers end with a killed parent even while they read an image."""
    parent = subprocess.Popen([sys.executable, "-c", SLEEPY], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    loaders = [int(parent.stdout.readline()) for _ in range(2)]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in loaders) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in loaders)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


BREAKS_OFF = """
import multiprocessing.resource_sharer as sharer, os, socket, sys, time
from tpt.data.loading import _end_with_parent

_end_with_parent(0)
address, _ = sharer.DupFd(os.dup(1))._id
with socket.socket(socket.AF_UNIX) as reader:
    reader.connect(address)
    time.sleep(0.5)  # the worker sends its challenge; closed with it unread, the connection is reset
time.sleep(0.5)
"""


def test_a_worker_whose_parent_is_killed_prints_no_trace() -> None:
    """The parent may end while a thread of the worker passes on shared memory; other errors of threads are printed."""
    run = [sys.executable, "-c"]
    quiet = subprocess.run([*run, BREAKS_OFF], capture_output=True, text=True, check=True)
    assert quiet.stderr == ""
    loud = BREAKS_OFF + "sys.excepthook(KeyError, KeyError('a bug'), None)"
    assert "a bug" in subprocess.run([*run, loud], capture_output=True, text=True, check=True).stderr
