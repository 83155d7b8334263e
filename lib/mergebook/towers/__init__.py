"""Image towers: open_clip's models, and their image towers as functions of their weights."""
