"""What an author of exercises writes with."""
