"""cotenant's own speed and size, measured."""
