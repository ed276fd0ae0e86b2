"""The command `rnagan finetune-classifier` as a script."""

from rnagan.commands.finetune_classifier import main

if __name__ == "__main__":
    main()
