"""The author's and instructor's tools: they are on main alone, and in no tree of a student."""
