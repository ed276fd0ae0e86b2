"""The command `rnagan serve-reader-study` as a script."""

from rnagan.commands.serve_reader_study import main

if __name__ == "__main__":
    main()
