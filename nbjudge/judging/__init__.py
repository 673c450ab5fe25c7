"""From cases, observations and right answers: a verdict, and the reason for it."""
