"""The command `rnagan explore` as a script."""

from rnagan.commands.explore import main

if __name__ == "__main__":
    main()
