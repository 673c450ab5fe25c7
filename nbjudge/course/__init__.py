"""The course's folder and what is kept in it."""
