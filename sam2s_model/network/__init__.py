"""The networks of the SAM2 family: pure functions of weights and tensors, without state between frames."""
