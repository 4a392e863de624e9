"""Studies of the room ritz.diffusion."""
