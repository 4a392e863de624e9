"""Studies of the room ritz.sequence."""
