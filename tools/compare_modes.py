"""The command `rnagan compare-modes` as a script."""

from rnagan.commands.compare_modes import main

if __name__ == "__main__":
    main()
