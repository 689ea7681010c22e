"""Networks for losses: VGG16, LPIPS, and a patch discriminator."""
