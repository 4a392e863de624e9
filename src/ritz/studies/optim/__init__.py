"""Studies of the room ritz.optim."""
