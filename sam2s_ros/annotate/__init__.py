"""The page of the console over a recording: prompt any frame, track on, correct, export."""
