"""Train a model of the family on recordings, with memory, as it will run: SAM2S's recipe.

sam2s train CONFIG.yaml
torchrun --nproc-per-node 8 -m sam2s_model.training CONFIG.yaml
"""
