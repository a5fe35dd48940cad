"""One short file per architecture: metadata -> graph. Weight names as data."""
