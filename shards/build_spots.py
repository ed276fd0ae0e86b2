"""The command `rnagan build-spots` as a script."""

from rnagan.commands.build_spots import main

if __name__ == "__main__":
    main()
