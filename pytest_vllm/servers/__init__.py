"""How a server comes to life, and how it ends."""
