"""The `mmaupro` command: one module a subcommand, each a thin view on functions that need no argparse.

A module has ``add_arguments(parser)`` and ``run(args) -> int`` (the exit status); `cli.COMMANDS` names
it and says in one line what it does. It is imported when its command is asked for, never before.
"""
