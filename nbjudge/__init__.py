"""How a function is asked, observed and judged, and how a class is graded."""
