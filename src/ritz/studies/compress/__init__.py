"""Studies of the room ritz.compress."""
