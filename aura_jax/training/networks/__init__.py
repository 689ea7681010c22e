"""Networks that losses are made of: VGG16, LPIPS on it, and a patch discriminator."""
