"""Model folders on a hub, as `hf:OWNER/NAME[@REVISION]`: fetched by name, and pushed.

`huggingface_hub` (the extra `hub`) does the transport and keeps what it fetched; HF_TOKEN and
HF_ENDPOINT are its variables. Only files of a model folder are fetched, and none is executed:
weights are safetensors, which `pretrained.load` compares with their checksums.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

PREFIX = "hf:"
_NAME = re.compile(r"hf:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


def fetch(name: str, files: Sequence[str]) -> Path:
    """The local copy of a hub's model folder; what is here already is not fetched again.

    Args:
        name: `hf:OWNER/NAME`, of the newest state, or `hf:OWNER/NAME@REVISION` of a branch, tag or
            commit.
        files: names of the files that are wanted.

    Raises:
        ValueError: a name of another form, or `huggingface_hub` is not installed.
        OSError: the hub cannot be reached, or has no such model.
    """
    owner_and_name, revision = _parsed(name)
    with _speaking_plainly(name) as hub:
        folder = hub.snapshot_download(
            owner_and_name, revision=revision, allow_patterns=list(files), library_name="fv-jax"
        )
    if not (Path(folder) / "config.json").is_file():
        raise FileNotFoundError(f"{name} holds no config.json, so it is no model of this project")
    return Path(folder)


def push(folder: Path, name: str, *, private: bool = False) -> str:
    """Put a folder's files onto a hub as one commit; makes the place if there is none.

    Args:
        folder: what `fv export` wrote.
        name: `hf:OWNER/NAME`.
        private: whether a place that is made is seen by its owner alone.

    Returns:
        The commit's address.

    Raises:
        ValueError: a name of another form, or `huggingface_hub` is not installed.
        OSError: the hub cannot be reached, or refuses.
    """
    owner_and_name, revision = _parsed(name)
    with _speaking_plainly(name) as hub:
        api = hub.HfApi(library_name="fv-jax")
        api.create_repo(owner_and_name, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=owner_and_name, folder_path=folder, revision=revision,
            commit_message="A model folder of fv-jax",
        )  # fmt: skip
    return commit.commit_url


def _parsed(name: str) -> tuple[str, str | None]:
    if not (found := _NAME.fullmatch(name)):
        raise ValueError(
            f"a hub's model is named hf:OWNER/NAME or hf:OWNER/NAME@REVISION: {name!r}"
        )
    return found[1], found[2]


@contextlib.contextmanager
def _speaking_plainly(name: str) -> Iterator:
    """The client, whose own errors become one sentence that names the model."""
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise ValueError(f'{name} needs huggingface_hub: pip install "fv-jax[hub]"') from error
    try:
        yield huggingface_hub
    except Exception as error:
        ours = type(error).__module__.partition(".")[0]
        if not isinstance(error, OSError | ValueError) and not ours.startswith(("http", "hugging")):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise OSError(f"{name}: the hub does not do that: {reason}") from error
