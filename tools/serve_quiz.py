"""The command `rnagan serve-quiz` as a script."""

from rnagan.commands.serve_quiz import main

if __name__ == "__main__":
    main()
