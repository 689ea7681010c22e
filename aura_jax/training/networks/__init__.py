"""Networks that losses are made of: VGG16 with LPIPS, and a discriminator."""
