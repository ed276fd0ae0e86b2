"""The command `rnagan confounder-report` as a script."""

from rnagan.commands.confounder_report import main

if __name__ == "__main__":
    main()
