"""The command `rnagan simulate-cohort` as a script."""

from rnagan.commands.simulate_cohort import main

if __name__ == "__main__":
    main()
