"""How tests talk to a server."""
