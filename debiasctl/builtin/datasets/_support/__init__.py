"""What several data sets share: image files, decoding, downloads, archives."""
