"""The command `rnagan analyse-reader-study` as a script."""

from rnagan.commands.analyse_reader_study import main

if __name__ == "__main__":
    main()
