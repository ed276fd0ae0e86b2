"""Applications with people in them: the quiz, the reader study, and the analysis of what readers said."""
