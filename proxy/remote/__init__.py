"""DIAL: every outgoing connection starts here and nowhere else; trouble comes back as a value."""
