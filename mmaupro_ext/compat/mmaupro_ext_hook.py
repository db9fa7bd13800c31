"""Start-up file of mmaupro-ext: makes the bare `lm_eval` command of lm_eval 0.4.13 find its plug-in.

The wheel puts this file and ``mmaupro_ext_hook.pth`` at the top of site-packages, so that every Python
process of the environment runs it: it imports `sys` and `os` only, and only waits for the import of
lm_eval. The one line of the .pth file swallows whatever may be wrong with this file.
"""

import os
import sys


class _WhenLmEvalIsImported:
    """A finder that finds nothing: it lets mmaupro_ext know that lm_eval is about to be imported."""

    def find_spec(self, name, path=None, target=None):
        if name == "lm_eval":
            sys.meta_path.remove(self)
            try:
                from mmaupro_ext import compat

                compat.install()
            except Exception as error:  # a damaged install must not take lm_eval with it
                print(
                    f"mmaupro-ext is damaged ({error!r}): lm_eval runs without it. Reinstall or "
                    "uninstall it, or set MMAUPRO_NO_HOOK=1.",
                    file=sys.stderr,
                )
        return None


if not os.environ.get("MMAUPRO_NO_HOOK"):
    sys.meta_path.insert(0, _WhenLmEvalIsImported())
