"""Find objects without a prompt: propose regions of an image, and name them by what a person confirmed."""
