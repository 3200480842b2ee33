"""The console: a page in the browser to see what a running tracker does, to click and to correct."""
