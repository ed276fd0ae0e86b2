"""The command `rnagan export-model` as a script."""

from rnagan.commands.export_model import main

if __name__ == "__main__":
    main()
