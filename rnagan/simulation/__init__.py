"""A cohort whose truth is known: donors, expression and slides that depend on the same hidden programmes."""
