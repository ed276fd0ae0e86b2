"""The command `rnagan build-tiles` as a script."""

from rnagan.commands.build_tiles import main

if __name__ == "__main__":
    main()
