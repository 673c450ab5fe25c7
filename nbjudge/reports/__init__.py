"""What instructors and students read of a graded class."""
