"""Studies of the room ritz.linalg."""
