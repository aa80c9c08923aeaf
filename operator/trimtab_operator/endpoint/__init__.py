"""The HTTPS endpoint where trainers report: KEP-2779 for any image, our own messages beside it."""
