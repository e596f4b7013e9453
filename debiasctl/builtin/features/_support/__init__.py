"""What several feature extractors share: preprocessing, weights files, vision transformers."""
