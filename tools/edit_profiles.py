"""The command `rnagan edit-profiles` as a script."""

from rnagan.commands.edit_profiles import main

if __name__ == "__main__":
    main()
