"""What lm_eval must know of us: the names of our model classes, and where our tasks are.

lm_eval releases after 0.4.13 find both through the entry points that pyproject.toml declares. 0.4.13
discovers nothing: `compat` makes up for it.
"""

from __future__ import annotations

import os
from typing import Any

OFF_SWITCH = "MMAUPRO_NO_HOOK"

# The target strings must equal the class's own "module:name", or lm_eval sees a clash of names
# when the class registers itself.
MODELS = {
    "hf-audio": "mmaupro_ext.models.hf.model:HFAudioLM",
    "openai-audio": "mmaupro_ext.models.engines.openai:OpenAIAudioLM",
    "vllm-audio": "mmaupro_ext.models.engines.vllm:VLLMAudioLM",
}


def tasks_dir() -> str:
    """Return the folder that holds the task YAML files.

    Returns
    -------
    str
        Absolute path: inside the installed package, or at the top of a source checkout.

    Raises
    ------
    FileNotFoundError
        When neither is there.
    """
    package = os.path.dirname(os.path.abspath(__file__))
    for folder in (os.path.join(package, "tasks"), os.path.join(os.path.dirname(package), "tasks")):
        if os.path.isdir(os.path.join(folder, "mmaupro")):
            return folder
    raise FileNotFoundError(
        f"the task folder is missing beside {package}; reinstall mmaupro-ext (pip install --force-"
        "reinstall mmaupro-ext)"
    )


def is_ours(model: Any) -> bool:
    """Tell whether a model is of one of our classes, or of one made from them."""
    return any(kind.__module__.startswith("mmaupro_ext.") for kind in type(model).__mro__)
