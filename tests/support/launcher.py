"""A copy of what `launch.sh` needs, so that it can be run without touching the project's out/."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from places import ROOT

_FV = "import sys\nfrom fv_jax.cli.main import main\nsys.exit(main())\n"


def project(folder: Path, fv: str = _FV) -> Path:
    """A project that is set up already, whose `fv` is a Python program: the real one, or a stub."""
    for name in ("launch.sh", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "deploy", folder / "deploy")
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    command = folder / ".venv" / "bin" / "fv"
    # No shebang of sys.executable, whose path may be longer than the kernel reads.
    command.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{command}.py' \"$@\"\n")
    command.chmod(0o755)
    Path(f"{command}.py").write_text(fv)
    files = b"".join((folder / n).read_bytes() for n in _STAMPED)
    stamp = subprocess.run(["cksum"], input=files, capture_output=True, check=True)
    (folder / ".venv" / ".ready").write_text(f"{stamp.stdout.decode().strip()} {folder} \n")
    return folder


_STAMPED = ("requirements.txt", "pyproject.toml", "launch.sh")  # in the order of launch.sh


def launch(
    folder: Path, *arguments: str, seconds: float = 300, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the project's launch.sh to its end."""
    return subprocess.run(
        ["bash", "launch.sh", *arguments],
        cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=seconds,
    )  # fmt: skip
