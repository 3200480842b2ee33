"""Messages, images, parameters and quality of service: what crosses the border of a node."""
