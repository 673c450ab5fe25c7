"""What is asked, a module a topic."""
