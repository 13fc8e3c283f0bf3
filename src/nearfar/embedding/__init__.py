"""Between encoders and back ends: views and pooling, conditioning, and the one cache of embeddings."""
