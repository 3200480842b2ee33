"""What people say about objects beyond one prompt: scripts of prompts for recordings, strokes, tubes."""
