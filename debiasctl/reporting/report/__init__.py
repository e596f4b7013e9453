"""A report as one HTML file that needs nothing else: what it holds, and how it is written."""
