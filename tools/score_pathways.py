"""The command `rnagan score-pathways` as a script."""

from rnagan.commands.score_pathways import main

if __name__ == "__main__":
    main()
