"""The command `rnagan nearest-tiles` as a script."""

from rnagan.commands.nearest_tiles import main

if __name__ == "__main__":
    main()
