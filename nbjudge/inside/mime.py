"""What the observations of a check are called among the outputs of its cell."""

OBSERVED_MIME = "application/vnd.nbjudge.observed+json"
