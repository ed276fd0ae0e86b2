"""The command `rnagan build-cohort` as a script."""

from rnagan.commands.build_cohort import main

if __name__ == "__main__":
    main()
