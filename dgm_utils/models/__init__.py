"""Building blocks that more than one topic uses; a topic imports them, never the reverse."""
