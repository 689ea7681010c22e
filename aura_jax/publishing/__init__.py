"""Save a model for others: a folder with its weights, sizes and model card, and a push to the hub.

These are the functions behind `AuraEquiVAE.save_pretrained` and `AuraEquiVAE.push_to_hub`.
"""
