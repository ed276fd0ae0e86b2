"""The command `rnagan build-expression` as a script."""

from rnagan.commands.build_expression import main

if __name__ == "__main__":
    main()
