"""A way to turn texts into vectors, in a process of its own that answers with its seconds."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE

import numpy as np
from numpy.typing import NDArray

_PEERS = Path(__file__).parent / "peers"
#: Environments of peers that need other versions than ours: made once, kept beside the checkout.
ENVIRONMENTS = Path(__file__).parent.parent / ".bench"


@dataclass(frozen=True)
class Contender:
    """`command` starts the process; `requirements` name the environment that it needs, if any."""

    name: str
    command: tuple[str, ...]
    requirements: str | None = None
    is_ours: bool = False

    def python(self) -> str:
        """The interpreter of its environment, which is made if it is not there."""
        if self.requirements is None:
            return sys.executable
        folder = ENVIRONMENTS / self.requirements
        if not (folder / ".installed").exists():
            print(f"installing benchmarks/peers/{self.requirements}.txt", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            requirements = str(_PEERS / f"{self.requirements}.txt")
            install = [str(folder / "bin/pip"), "install", "--quiet", "-r", requirements]
            subprocess.run(install, check=True)
            (folder / ".installed").touch()
        return str(folder / "bin/python")


class Running:
    """A contender that has loaded its model and waits. Raises RuntimeError if it cannot."""

    def __init__(self, contender: Contender, folder: str) -> None:
        self.contender = contender
        command = [contender.python(), *contender.command, folder]
        self._process = subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True)
        self._answer()

    def encode(self, inputs: dict[str, str], vectors: Path) -> float:
        """Seconds over the inputs' texts; the vectors (n, d) go to a .npy file."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({**inputs, "vectors": str(vectors)}) + "\n")
        self._process.stdin.flush()
        return float(self._answer()["seconds"])

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.contender.name} ended with {self._process.wait()}")
        return dict(json.loads(line))


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine of each row of two arrays (n, d)."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a64, axis=1) * np.linalg.norm(b64, axis=1)
    return np.asarray(np.einsum("ij,ij->i", a64, b64) / norms)
