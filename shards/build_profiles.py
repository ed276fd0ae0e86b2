"""The command `rnagan build-profiles` as a script."""

from rnagan.commands.build_profiles import main

if __name__ == "__main__":
    main()
