"""LISTEN: the HTTP edge."""
