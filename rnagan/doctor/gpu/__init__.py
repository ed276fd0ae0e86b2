"""A user's first GPU, checked in minutes: is it right, how fast is it, and does a run on it stop and go on."""
