"""Train a model of the family on clips, with memory, as it will run.

    python -m sam2s_model.training --help
"""
