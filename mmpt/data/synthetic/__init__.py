"""Data that is made instead of read: drawn scenes and espeak-ng's speech."""
