"""Nodes as processes: run one, start a graph of them, the environment they need, and a client of the graph."""
