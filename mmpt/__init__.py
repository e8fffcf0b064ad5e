"""From raw pictures, speech and text to one model that reads and writes all three."""


def load(path, device=None, dtype=None, quantization=None):
    """The model in a checkpoint folder, or the newest of a run folder: `mmpt.inference.load.load`, imported when first asked
    for."""
    import torch

    from mmpt.inference.load import load as load_checkpoint

    return load_checkpoint(path, device, torch.float32 if dtype is None else dtype, quantization=quantization)
