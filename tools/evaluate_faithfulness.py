"""The command `rnagan evaluate-faithfulness` as a script."""

from rnagan.commands.evaluate_faithfulness import main

if __name__ == "__main__":
    main()
