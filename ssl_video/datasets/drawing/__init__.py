"""Drawing synthetic videos with numpy: textures and shapes, motions, and scenes made of them."""
