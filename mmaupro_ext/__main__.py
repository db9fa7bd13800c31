"""``python -m mmaupro_ext`` and ``accelerate launch -m mmaupro_ext``: the `mmaupro` command."""

from mmaupro_ext.commands.cli import main

if __name__ == "__main__":
    main()
