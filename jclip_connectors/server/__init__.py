"""`jclip serve`: a self-hosted embedding service that speaks the hosted API's language."""
