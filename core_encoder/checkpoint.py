"""Find the files of a checkpoint: in a folder, in the package, or on the hub."""

from pathlib import Path

from core_encoder.errors import CheckpointError, ConfigError
from core_encoder.exported import EXPORT_FILE, EXPORT_FILES
from core_encoder.models import FILES as FILES  # part of this module's interface too, like the next
from core_encoder.models import WEIGHTS_FILE as WEIGHTS_FILE
from core_encoder.models import default_revision, find_folder, is_hub_id


def find_checkpoint(source: str | Path, *, revision: str | None, local_files_only: bool) -> Path:
    """Find or download the four files of a checkpoint and return the folder that holds them.

    Args:
        source: hub id ("jinaai/jina-clip-v2"), folder, or "nano".
        revision: commit, branch or tag of a hub id; `None` takes the pinned commit of a known model.
        local_files_only: never use the network.

    Raises:
        CheckpointError: a file is absent, the hub cannot be reached, or the id does not exist.
        ConfigError: `revision` was given for a folder.
    """
    folder = Path(__file__).parent / "nano" if source == "nano" else find_folder(source)
    if folder is not None:
        if revision is not None:
            raise ConfigError(f"`revision` is {revision!r}, but {str(source)!r} is local and has no revisions")
        files = EXPORT_FILES if (folder / EXPORT_FILE).is_file() else FILES
        if absent := [name for name in files if not (folder / name).is_file()]:
            raise CheckpointError(f"the folder {str(folder)!r} lacks {absent}; a checkpoint has {list(files)}")
        return folder
    if not is_hub_id(str(source)):
        raise CheckpointError(f"{str(source)!r} is neither a folder, nor a hub id of the form 'owner/name', nor 'nano'")
    if revision is None:
        revision = default_revision(str(source))
    paths = [_download(str(source), name, revision, local_files_only=local_files_only) for name in FILES]
    return paths[0].parent


def _download(repo_id: str, name: str, revision: str | None, *, local_files_only: bool) -> Path:
    # Imported here: a bundled model and a folder do not need it, and it takes as long as the rest of a short command.
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError

    asked = f"{repo_id!r} at revision {revision or 'main'!r}"
    try:
        return Path(hf_hub_download(repo_id, name, revision=revision, local_files_only=local_files_only))
    except LocalEntryNotFoundError as error:
        why = "`local_files_only` is set" if local_files_only else "the hub cannot be reached"
        raise CheckpointError(
            f"{name} of {asked} is not in the local cache and {why}: download it once with a connection, "
            "or pass a folder that holds the files"
        ) from error
    except EntryNotFoundError as error:
        hint = "; weights are read from safetensors only, never from a pickle" if name == WEIGHTS_FILE else ""
        raise CheckpointError(f"{asked} has no file {name}{hint}") from error
    except (OSError, HFValidationError) as error:  # the hub's HTTP errors are OSErrors
        raise CheckpointError(f"{name} of {asked} cannot be downloaded ({type(error).__name__}): {error}") from error
