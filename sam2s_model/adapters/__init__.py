"""Adapters: small parts that are trained over a frozen model, DD-SAM2's dilated convolutions and LoRA.

`checkpoint.adapter_files` reads and writes them, `applying` puts them on a model, `names` knows them in a state dict.
"""
