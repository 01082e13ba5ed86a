"""WRITE: rows and clips become what people take away."""
