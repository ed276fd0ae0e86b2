"""The command `rnagan evaluate-external` as a script."""

from rnagan.commands.evaluate_external import main

if __name__ == "__main__":
    main()
