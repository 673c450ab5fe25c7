"""What the person at the command line is told in one line."""


class UserError(Exception):
    """Something that whoever runs `dgm` can mend; the message is one line that says how."""
