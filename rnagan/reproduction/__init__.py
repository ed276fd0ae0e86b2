"""The article's experiments on a cohort, from its profiles and tiles to one report."""
