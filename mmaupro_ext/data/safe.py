"""Which files are opened at all: regular ones that lie in the dataset's folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from mmaupro_ext.data.locate import AUDIO_FOLDER
from mmaupro_ext.util import stat_regular


def stat_clip(root: Path, relative: str) -> os.stat_result:
    """Return the state of a clip, before it is opened.

    Parameters
    ----------
    root : pathlib.Path
        Folder of the dataset. It and its `data/` may themselves be links.
    relative : str
        Path of the clip.

    Raises
    ------
    OSError
        As `stat_regular`, and for a link that leads out of the folder.
    """
    path = root / relative
    state = stat_regular(path)
    stay_inside(root, path)
    return state


def stay_inside(root: Path, path: Path) -> None:
    """Raise OSError when links lead from a path in a dataset's folder out of it; see `stat_clip`."""
    real = os.path.join(os.path.realpath(path), "")
    homes = [os.path.join(os.path.realpath(home), "") for home in (root, root / AUDIO_FOLDER)]
    if not real.startswith(tuple(homes)):
        raise OSError(errno.EPERM, f"it is a link out of the dataset, to {real}", str(path))
