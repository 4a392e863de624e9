"""Studies of the room ritz.graphs."""
