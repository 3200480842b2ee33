"""`sam2s doctor --gpu`: does this GPU compute what the CPU does, whatever is done to it, and how fast?

Parts are compared one by one, each in a process of its own (`python -m sam2s_model.gpu_check`), since an error of CUDA
leaves nothing of a process to go on with.
"""
