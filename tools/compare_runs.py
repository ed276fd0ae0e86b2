"""The command `rnagan compare-runs` as a script."""

from rnagan.commands.compare_runs import main

if __name__ == "__main__":
    main()
