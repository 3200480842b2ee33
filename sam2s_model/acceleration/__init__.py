"""How the same numbers come sooner: kernels, folding, compilation, CUDA graphs, memory allocation."""
