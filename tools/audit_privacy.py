"""The command `rnagan audit-privacy` as a script."""

from rnagan.commands.audit_privacy import main

if __name__ == "__main__":
    main()
