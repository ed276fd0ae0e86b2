"""The command `rnagan generate-tiles` as a script."""

from rnagan.commands.generate_tiles import main

if __name__ == "__main__":
    main()
